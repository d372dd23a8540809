// The Python module gallop._kernels: networks and gradient steps over NumPy arrays.
//
// All state lives in arrays that Python owns and hands over; what is allocated here is work space.
// Whatever takes long releases the GIL.

#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <chrono>

#include "off_policy.hpp"
#include "ppo.hpp"

using namespace nanobind::literals;

namespace gallop {
namespace {

// FLOP a second that every thread of the engine reaches at best, added up.
double peak(Engine& engine, double seconds) {
  nb::gil_scoped_release released;
  const std::lock_guard lock(engine.busy);
  struct Job {
    const Kernels* kernels;
    double seconds;
    double rate[64];
  } job{engine.kernels, seconds, {}};
  engine.team.run(
      [](void* context, int thread) {
        using Clock = std::chrono::steady_clock;
        Job& j = *static_cast<Job*>(context);
        float sink[16] = {0.5f};
        double flop = 0, elapsed = 0;
        const auto start = Clock::now();
        while (elapsed < j.seconds) {
          sink[0] = 0.5f;
          flop += j.kernels->peak(20000, sink);
          elapsed = std::chrono::duration<double>(Clock::now() - start).count();
        }
        j.rate[thread] = flop / elapsed;
      },
      &job);
  double total = 0;
  for (const double rate : job.rate) total += rate;
  return total;
}

}  // namespace
}  // namespace gallop

NB_MODULE(_kernels, m) {
  using namespace gallop;
  m.attr("PANEL") = PANEL;
  m.def("instruction_sets", [] {
    std::vector<std::string> names;
    for (const Kernels* each : available()) names.emplace_back(each->name);
    return names;
  });
  m.def("has_bf16", [] { return available().front()->bf16; });
  m.def("advantages", &advantages, "rewards"_a, "values"_a, "starts"_a, "last_values"_a,
        "last_starts"_a, "gamma"_a, "gae_lambda"_a);
  m.def("peak", &peak, "engine"_a, "seconds"_a);

  nb::class_<Engine>(m, "Engine")
      .def(nb::init<const std::string&, int>(), "instruction_set"_a, "n_threads"_a)
      .def_prop_ro("instruction_set", [](const Engine& e) { return std::string(e.kernels->name); })
      .def_prop_ro("n_threads", [](const Engine& e) { return e.team.n_threads(); });

  nb::class_<Mlp>(m, "Mlp")
      .def(nb::init<std::shared_ptr<Engine>, const std::vector<int>&, const std::string&,
                    const std::string&, const std::string&, bool>(),
           "engine"_a, "widths"_a, "hidden"_a, "last"_a, "precision"_a = "float32",
           "has_target"_a = true)
      .def("use", &Mlp::use, "parameters"_a, "first_moment"_a.none(), "second_moment"_a.none(),
           "target"_a.none())
      .def("refresh", &Mlp::refresh)
      .def("forward", &Mlp::forward, "x"_a)
      .def_prop_ro("layout", &Mlp::layout)
      .def_prop_ro("size", [](const Mlp& mlp) { return mlp.network.size; });

  nb::class_<Normalizer>(m, "Normalizer")
      .def(nb::init<std::optional<ConstFloats>, std::optional<ConstFloats>, float, float, float>(),
           "mean"_a.none() = nb::none(), "scale"_a.none() = nb::none(), "clip"_a = 0.0f,
           "reward_scale"_a = 0.0f, "reward_clip"_a = 0.0f);
  const Normalizer as_it_is{};

  const auto off_policy = [](auto& c) {
    using T = typename std::remove_reference_t<decltype(c)>::Type;
    c.def("use_replay", &T::use_replay, "observations"_a, "following"_a, "actions"_a, "rewards"_a,
          "ends"_a);
  };
  auto sac = nb::class_<SacLearner>(m, "Sac");
  sac.def(nb::init<std::shared_ptr<Mlp>, std::vector<std::shared_ptr<Mlp>>, int, float, float,
                   Floats, bool, float, double, double, double, double>(),
          "actor"_a, "critics"_a, "batch"_a, "gamma"_a, "tau"_a, "entropy"_a, "learn_entropy"_a,
          "target_entropy"_a, "beta1"_a, "beta2"_a, "epsilon"_a, "weight_decay"_a)
      .def("step", &SacLearner::step, "indices"_a, "noise"_a, "learning_rate"_a, "n_done"_a,
           "target_update_interval"_a = 1, "n_before"_a = 0, "normalizer"_a = as_it_is);
  off_policy(sac);
  auto td3 = nb::class_<Td3Learner>(m, "Td3");
  td3.def(nb::init<std::shared_ptr<Mlp>, std::vector<std::shared_ptr<Mlp>>, int, float, float,
                   float, float, double, double, double, double>(),
          "actor"_a, "critics"_a, "batch"_a, "gamma"_a, "tau"_a, "target_noise"_a,
          "target_noise_clip"_a, "beta1"_a, "beta2"_a, "epsilon"_a, "weight_decay"_a)
      .def("step", &Td3Learner::step, "indices"_a, "noise"_a, "learning_rate"_a, "n_done"_a,
           "policy_delay"_a = 2, "normalizer"_a = as_it_is);
  off_policy(td3);
  nb::class_<PpoLearner>(m, "Ppo")
      .def(nb::init<std::shared_ptr<Mlp>, std::shared_ptr<Mlp>, bool, Floats, Floats, Floats, int,
                    bool, float, float, float, double, double, double, double, double>(),
           "policy"_a, "value"_a, "discrete"_a, "log_std"_a, "log_std_first"_a, "log_std_second"_a,
           "batch"_a, "normalize_advantage"_a, "entropy_weight"_a, "value_weight"_a,
           "max_gradient_norm"_a, "target_kl"_a, "beta1"_a, "beta2"_a, "epsilon"_a,
           "weight_decay"_a)
      .def("epoch", &PpoLearner::epoch, "indices"_a, "observations"_a, "actions"_a, "values"_a,
           "log_probs"_a, "advantages"_a, "returns"_a, "learning_rate"_a, "n_done"_a,
           "clip_range"_a, "clip_range_value"_a = 0.0f);
}
