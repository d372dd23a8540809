// Python's view of the physics of Gymnasium's MuJoCo tasks.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "../physics.hpp"
#include "engine.hpp"

namespace gallop {

using Doubles = nb::ndarray<double, nb::numpy, nb::c_contig, nb::device::cpu>;
using ConstDoubles = nb::ndarray<const double, nb::numpy, nb::c_contig, nb::device::cpu>;
using Counters = nb::ndarray<const std::int32_t, nb::numpy, nb::ndim<1>, nb::device::cpu>;
using Bytes = nb::ndarray<std::uint8_t, nb::numpy, nb::c_contig, nb::device::cpu>;
using Bounded = std::tuple<ConstDoubles, double, double>;            // numbers, low, high
using Conditional = std::tuple<ConstDoubles, double, double, bool>;  // and whether inclusive

struct MujocoAddresses {
  std::uintptr_t step, rne_post_constraint, on_error;
};

struct SteppedArrays {
  Doubles observations;
  Floats rewards;
  Bytes events;
};

struct SimulatorArguments {
  std::uintptr_t model, data;
  int frame_skip;
  double seconds;
  Doubles controls;
  Counters unstable;
  std::int64_t time_limit;
  std::vector<Bounded> observation;
  ConstDoubles position;
  std::optional<ConstDoubles> mass;
  double total_mass;
  std::vector<Conditional> health;
  bool terminates;
  double forward_weight;
  std::optional<double> healthy_reward;
  double control_weight;
  bool control_in_double;
  double contact_weight;
  std::optional<Bounded> contact_forces;
  std::pair<double, double> contact_cost;
};

class PythonPhysics {
 public:
  PythonPhysics(const MujocoAddresses& mujoco, SteppedArrays arrays,
                const PhysicsSettings& settings, int n_threads)
      : arrays_(std::move(arrays)), physics_(functions(mujoco), settings, n_threads) {
    require(n_threads >= 1, "n_threads must be at least 1");
  }

  void add(const SimulatorArguments& given) {
    const auto n_actions = static_cast<std::size_t>(physics_.settings().n_actions);
    require(given.controls.size() == n_actions, "controls must have one number per action");
    require(given.unstable.size() == std::size(Simulator{}.unstable), "unstable must be [3]");
    require(given.position.size() >= 1, "position must not be empty");
    Simulator simulator{};
    simulator.model = reinterpret_cast<const void*>(given.model);
    simulator.data = reinterpret_cast<void*>(given.data);
    simulator.frame_skip = given.frame_skip;
    simulator.seconds = given.seconds;
    simulator.controls = given.controls.data();
    for (int i = 0; i < 3; i++)
      simulator.unstable[i] = given.unstable.data() + i * given.unstable.stride(0);
    simulator.time_limit = given.time_limit;
    simulator.terminates = given.terminates;
    simulator.position = {given.position.data(), nullptr, 0, given.total_mass};
    if (given.mass) {
      const auto n_bodies = static_cast<std::ptrdiff_t>(given.mass->size());
      require(given.position.size() == 3 * given.mass->size(), "position must be [bodies, 3]");
      simulator.position.mass = given.mass->data();
      simulator.position.n_bodies = n_bodies;
    }
    std::ptrdiff_t n_observations = 0;
    for (const Bounded& part : given.observation) {
      simulator.observation.push_back(bounded(part));
      n_observations += simulator.observation.back().n;
    }
    require(n_observations == physics_.settings().n_observations,
            "the observation has " + std::to_string(n_observations) + " numbers, its space " +
                std::to_string(physics_.settings().n_observations));
    for (const auto& [numbers, low, high, inclusive] : given.health)
      simulator.health.push_back({bounded({numbers, low, high}), inclusive});
    simulator.reward = {.forward_weight = given.forward_weight,
                        .has_health = given.healthy_reward.has_value(),
                        .healthy_reward = given.healthy_reward.value_or(0),
                        .control_weight = given.control_weight,
                        .control_in_double = given.control_in_double,
                        .has_contact = given.contact_forces.has_value(),
                        .contact_weight = given.contact_weight,
                        .contact_forces = {},
                        .contact_cost = {given.contact_cost.first, given.contact_cost.second}};
    if (given.contact_forces) simulator.reward.contact_forces = bounded(*given.contact_forces);
    kept_.push_back(given);
    physics_.add(std::move(simulator));
    const std::size_t n = physics_.size();
    const auto width = static_cast<std::size_t>(physics_.settings().n_observations);
    require(arrays_.observations.size() >= n * width && arrays_.rewards.size() >= n &&
                arrays_.events.size() >= n,
            "the arrays have no row for this environment");
  }

  void begin(std::size_t index) { physics_.begin(checked(index)); }
  void pause(std::size_t index) { physics_.pause(checked(index)); }

  template <typename Actions>
  bool step(Actions actions) {
    const auto n_actions = static_cast<std::size_t>(physics_.settings().n_actions);
    require(actions.size() == physics_.size() * n_actions,
            "the actions must be [" + std::to_string(physics_.size()) + ", " +
                std::to_string(n_actions) + "]");
    nb::gil_scoped_release released;
    return physics_.step(actions.data(), {arrays_.observations.data(), arrays_.rewards.data(),
                                          arrays_.events.data()});
  }

  const std::vector<double>& rewards(std::size_t index) const {
    return physics_.rewards(checked(index));
  }
  nb::dict sums(std::size_t index) const {
    const EpisodeSums& sums = physics_.sums(checked(index));
    nb::dict found;
    found["reward"] = sums.reward;
    found["reward_forward"] = sums.forward;
    found["reward_ctrl"] = sums.control;
    found["reward_contact"] = sums.contact;
    found["reward_survive"] = sums.health;
    return found;
  }
  const std::string& error(std::size_t index) const { return physics_.error(checked(index)); }

 private:
  static Mujoco functions(const MujocoAddresses& mujoco) {
    return {reinterpret_cast<Mujoco::Function>(mujoco.step),
            reinterpret_cast<Mujoco::Function>(mujoco.rne_post_constraint),
            reinterpret_cast<OnMujocoError*>(mujoco.on_error)};
  }

  static Part bounded(const Bounded& part) {
    const auto& [numbers, low, high] = part;
    return {numbers.data(), static_cast<std::ptrdiff_t>(numbers.size()), {low, high}};
  }

  std::size_t checked(std::size_t index) const {
    require(index < physics_.size(), "there is no environment " + std::to_string(index));
    return index;
  }

  SteppedArrays arrays_;
  std::vector<SimulatorArguments> kept_;  // they own the numbers of their MjData
  Physics physics_;
};

}  // namespace gallop
