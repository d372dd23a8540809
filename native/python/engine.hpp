// The basis of every class of the module: an instruction set with its threads, and work space.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <semaphore>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "algorithms.hpp"

namespace gallop {

namespace nb = nanobind;

#ifdef HAVE_AVX512
namespace avx512 {
extern const Kernels kernels;
}
#endif
#ifdef HAVE_AVX2
namespace avx2 {
extern const Kernels kernels;
}
#endif
namespace baseline {
extern const Kernels kernels;
}

using Floats = nb::ndarray<float, nb::numpy, nb::c_contig, nb::device::cpu>;
using ConstFloats = nb::ndarray<const float, nb::numpy, nb::c_contig, nb::device::cpu>;
using Indices = nb::ndarray<const std::int64_t, nb::numpy, nb::c_contig, nb::device::cpu>;
using Rows = nb::ndarray<const std::int32_t, nb::numpy, nb::c_contig, nb::device::cpu>;
using Flags = nb::ndarray<const bool, nb::numpy, nb::c_contig, nb::device::cpu>;

// The instruction sets of this build that this processor supports, best first.
inline std::vector<const Kernels*> available() {
  std::vector<const Kernels*> found;
#ifdef HAVE_AVX512
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw"))
    found.push_back(&avx512::kernels);
#endif
#ifdef HAVE_AVX2
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    found.push_back(&avx2::kernels);
#endif
  found.push_back(&baseline::kernels);
  return found;
}

// Throws std::invalid_argument, which is ValueError in Python, unless `holds`.
inline void require(bool holds, const std::string& message) {
  if (!holds) throw std::invalid_argument(message);
}

// Work space: zeroed and aligned to cache lines. Each array is shifted by an odd number of lines
// against the previous one, because streams at equal addresses modulo 4096 slow each other down.
class Memory {
 public:
  Memory() = default;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  float* floats(std::ptrdiff_t n) {
    constexpr std::size_t LINE = 64, SHIFT = 17 * LINE;
    const std::size_t bytes =
        (static_cast<std::size_t>(n) * sizeof(float) + LINE - 1) / LINE * LINE;
    const std::size_t total = bytes + SHIFT * (pieces_.size() % 3 + 1);
    void* piece = std::aligned_alloc(LINE, (total + LINE - 1) / LINE * LINE);
    if (piece == nullptr) throw std::bad_alloc();
    pieces_.emplace_back(piece);
    std::memset(piece, 0, total);
    return reinterpret_cast<float*>(static_cast<char*>(piece) + total - bytes);
  }

  // The same for other plain types.
  template <class T>
  T* array(std::ptrdiff_t n) {
    const std::ptrdiff_t bytes = n * static_cast<std::ptrdiff_t>(sizeof(T)), size = sizeof(float);
    return reinterpret_cast<T*>(floats((bytes + size - 1) / size));
  }

 private:
  struct Free {
    void operator()(void* piece) const { std::free(piece); }
  };
  std::vector<std::unique_ptr<void, Free>> pieces_;
};

// An instruction set and the threads that use it.
struct Engine {
  const Kernels* kernels;
  float sparse_below;  // see Network
  Team team;

  Engine(const std::string& instruction_set, int n_threads, std::optional<float> sparse_below_)
      : kernels(find(instruction_set)),
        sparse_below(sparse_below_.value_or(kernels->pays_below)),
        team(std::clamp(n_threads, 1, MAX_THREADS)) {}

  // Waits, without the GIL, until no other thread uses the engine.
  void acquire() {
    if (begun_by_ == std::this_thread::get_id())
      throw std::runtime_error("gradient steps have begun on this engine: call finish() first");
    free_.acquire();
  }
  void release() {
    begun_by_ = std::thread::id();
    free_.release();
  }
  // After acquire(): the engine stays in use when the call returns, until release().
  void keep() { begun_by_ = std::this_thread::get_id(); }

  static const Kernels* find(const std::string& name) {
    std::string known;
    for (const Kernels* each : available()) {
      if (name == each->name) return each;
      known += std::string(known.empty() ? "" : ", ") + each->name;
    }
    throw std::invalid_argument(name + ": not an instruction set of this machine, which has " +
                                known);
  }

 private:
  std::binary_semaphore free_{1};  // not a mutex: another thread may call finish()
  std::atomic<std::thread::id> begun_by_{};
};

// Keeps other threads from an engine as long as it lives.
class Use {
 public:
  explicit Use(Engine& engine) : engine_(engine) { engine.acquire(); }
  ~Use() { engine_.release(); }
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;

 private:
  Engine& engine_;
};

}  // namespace gallop
