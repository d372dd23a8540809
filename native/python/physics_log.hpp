// Python's view of the log of physics steps.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "../physics_log.hpp"
#include "physics.hpp"

namespace gallop {

struct PhysicsLogArguments {
  LogFunctions functions;
  LogLayout layout;
  std::uintptr_t model, data;
  Doubles qpos, qvel, qacc, qacc_warmstart;
  std::vector<Doubles> row;
  Rows geom_bodyid, body_rootid;
  Doubles xpos, xmat, cvel, subtree_com;
  double timestep;
  bool is_rk4;
};

class PythonPhysicsLog {
 public:
  explicit PythonPhysicsLog(const PhysicsLogArguments& given)
      : kept_(given),
        log_(given.functions, given.layout, reinterpret_cast<const void*>(given.model),
             reinterpret_cast<void*>(given.data),
             {span(given.qpos), span(given.qvel), span(given.qacc), span(given.qacc_warmstart)},
             spans(given.row),
             {given.geom_bodyid.data(), given.body_rootid.data(), given.xpos.data(),
              given.xmat.data(), given.cvel.data(), given.subtree_com.data()},
             given.timestep, given.is_rk4) {
    const std::size_t nv = given.qvel.size();
    require(given.qacc.size() == nv && given.qacc_warmstart.size() == nv,
            "qacc and qacc_warmstart must be as long as qvel");
    const std::size_t n = given.body_rootid.size();
    require(given.xpos.size() == 3 * n && given.xmat.size() == 9 * n &&
                given.cvel.size() == 6 * n && given.subtree_com.size() == 3 * n,
            "xpos, xmat, cvel and subtree_com must have a row for each body");
  }

  void step(int n) {
    if (const char* message = log_.step(n)) throw std::runtime_error(message);
  }

  // Copies, so that the log can go on.
  nb::dict arrays() const {
    nb::dict found;
    found["rows"] = array(log_.rows, total(kept_.row));
    found["contact_rows"] = array(log_.contact_rows, 0);
    found["geoms"] = array(log_.geoms, 2);
    found["contacts"] = array(log_.contacts, PhysicsLog::CONTACT_WIDTH);
    found["bodies"] = array(log_.bodies, PhysicsLog::BODIES_WIDTH);
    return found;
  }

 private:
  static Span span(const Doubles& numbers) {
    return {numbers.data(), static_cast<std::ptrdiff_t>(numbers.size())};
  }
  static std::vector<Span> spans(const std::vector<Doubles>& all) {
    std::vector<Span> found;
    for (const Doubles& each : all) found.push_back(span(each));
    return found;
  }
  static std::size_t total(const std::vector<Doubles>& all) {
    std::size_t n = 0;
    for (const Doubles& each : all) n += each.size();
    return n;
  }

  // width: numbers of a row; 0 for an array of one dimension
  template <typename T>
  static nb::ndarray<nb::numpy, T> array(const std::vector<T>& numbers, std::size_t width) {
    auto* kept = new std::vector<T>(numbers);
    nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
    if (width == 0) return {kept->data(), {kept->size()}, owner};
    return {kept->data(), {kept->size() / width, width}, owner};
  }

  const PhysicsLogArguments kept_;  // owns the numbers of the MjData
  PhysicsLog log_;
};

}  // namespace gallop
