// The Python module gallop._kernels: networks and gradient steps over NumPy arrays.
//
// All state is in arrays that Python owns; only work space is allocated here. Long calls release
// the GIL. Arguments are keyword-only and go straight into named fields, so that no two numbers can
// be swapped. nanobind generates src/gallop/_kernels.pyi from these bindings.

#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <chrono>
#include <limits>

#include "off_policy.hpp"
#include "physics.hpp"
#include "physics_log.hpp"
#include "ppo.hpp"

using namespace nanobind::literals;

namespace gallop {
namespace {

// Peak FLOP per second of all threads of the engine together.
double peak(Engine& engine, double seconds) {
  nb::gil_scoped_release released;
  const Use use(engine);
  struct Job {
    const Kernels* kernels;
    double seconds;
    double rate[MAX_THREADS];
    int n;
  } job{engine.kernels, seconds, {}, engine.team.n_threads()};
  engine.team.run(
      [](void* context, Worker& worker) {
        using Clock = std::chrono::steady_clock;
        Job& j = *static_cast<Job*>(context);
        worker.divide(j.n, [&](int item) {
          float sink[16] = {0.5f};
          double flop = 0, elapsed = 0;
          const auto start = Clock::now();
          while (elapsed < j.seconds) {
            sink[0] = 0.5f;
            flop += j.kernels->peak(20000, sink);
            elapsed = std::chrono::duration<double>(Clock::now() - start).count();
          }
          j.rate[item] = flop / elapsed;
        });
      },
      &job);
  double total = 0;
  for (const double rate : job.rate) total += rate;
  return total;
}

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const Kernels* each : available()) names.emplace_back(each->name);
  return names;
}

void bind_functions(nb::module_& m) {
  m.def("instruction_sets", &instruction_sets,
        "Instruction sets of this build that this processor supports, best first.");
  m.def("peak", &peak, nb::kw_only(), "engine"_a, "seconds"_a,
        R"(
Measure the peak FLOP per second of all threads of the engine together.

Args:
    engine: the instruction set and threads to measure.
    seconds: duration of the measurement.
)");
  m.def(
      "advantages",
      [](ConstFloats rewards, ConstFloats values, ConstFloats starts, ConstFloats last_values,
         ConstFloats last_starts, float gamma, float gae_lambda) {
        return advantages({.rewards = rewards,
                           .values = values,
                           .starts = starts,
                           .last_values = last_values,
                           .last_starts = last_starts},
                          {.gamma = gamma, .gae_lambda = gae_lambda});
      },
      nb::kw_only(), "rewards"_a, "values"_a, "starts"_a, "last_values"_a, "last_starts"_a,
      "gamma"_a, "gae_lambda"_a, R"(
Generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438).

Args:
    rewards, values: [n_steps, n_envs].
    starts: [n_steps, n_envs], 1 where an episode begins and 0 elsewhere.
    last_values, last_starts: [n_envs], of the timestep after the rollout.
    gamma: discount factor, 0 to 1.
    gae_lambda: decay factor lambda of the estimator, 0 to 1.

Returns:
    Advantages, [n_steps, n_envs].
)");
}

void bind_networks(nb::module_& m) {
  nb::class_<Engine>(m, "Engine", "An instruction set and the threads that use it.")
      .def(nb::init<const std::string&, int, std::optional<float>>(), nb::kw_only(),
           "instruction_set"_a, "n_threads"_a, "sparse_below"_a.none() = nb::none(), R"(
Args:
    instruction_set: one of instruction_sets().
    n_threads: the caller's and n - 1 others, which live as long as the engine.
    sparse_below: density below which products leave out zeros, which changes no bit;
        0: never; None: where it pays.
)")
      .def_prop_ro(
          "instruction_set", [](const Engine& e) { return std::string(e.kernels->name); },
          "One of instruction_sets().")
      .def_prop_ro("n_threads", [](const Engine& e) { return e.team.n_threads(); });

  nb::class_<Mlp>(m, "Mlp", "A multilayer perceptron whose parameters are arrays of the caller.")
      .def(
          "__init__",
          [](Mlp* self, std::shared_ptr<Engine> engine, const std::vector<int>& widths,
             const std::string& hidden, const std::string& last) {
            new (self) Mlp(std::move(engine), {.widths = widths, .hidden = hidden, .last = last});
          },
          nb::kw_only(), "engine"_a, "widths"_a, "hidden"_a, "last"_a, R"(
Args:
    engine: the instruction set and threads to use.
    widths: number of inputs, then the outputs of every layer.
    hidden: activation of the hidden layers: relu, tanh or none.
    last: activation of the last layer.
)")
      .def(
          "use",
          [](Mlp& self, Floats parameters, std::optional<Floats> first_moment,
             std::optional<Floats> second_moment, std::optional<Floats> target) {
            self.use({.parameters = parameters,
                      .first_moment = first_moment,
                      .second_moment = second_moment,
                      .target = target});
          },
          nb::kw_only(), "parameters"_a, "first_moment"_a.none(), "second_moment"_a.none(),
          "target"_a.none(),
          R"(
Use these arrays, [size] each.

Args:
    parameters: weights and biases; see `layout`.
    first_moment, second_moment: moments of Adam; None if the network does not learn.
    target: parameters of the target network, or None.
)")
      .def("refresh", &Mlp::refresh,
           "Update internal copies after the parameters were changed from outside.")
      .def("forward", &Mlp::forward, "x"_a, "Compute outputs [n, outputs] of inputs [n, inputs].")
      .def_prop_ro("layout", &Mlp::layout,
                   R"(
For each layer: inputs, outputs, offset of its weights and of its biases in the arrays.

Weights are stored in panels of PANEL columns; see network.hpp.
)")
      .def_prop_ro("size", [](const Mlp& mlp) { return mlp.network.size; }, "Floats per array.");
}

void bind_settings(nb::module_& m) {
  nb::class_<AdamSettings>(m, "AdamSettings", "Adam (Kingma & Ba 2015), as in torch.optim.Adam.")
      .def(
          "__init__",
          [](AdamSettings* self, double beta1, double beta2, double epsilon, double weight_decay) {
            new (self) AdamSettings{
                .beta1 = beta1, .beta2 = beta2, .epsilon = epsilon, .weight_decay = weight_decay};
          },
          nb::kw_only(), "beta1"_a, "beta2"_a, "epsilon"_a, "weight_decay"_a);

  nb::class_<Normalizer>(m, "Normalizer",
                         R"(
How a learner normalises observations and rewards from the replay buffer.

Observations: clip((x - mean) * scale). Rewards: clip(r * reward_scale).
)")
      .def(
          "__init__",
          [](Normalizer* self, std::optional<ConstFloats> mean, std::optional<ConstFloats> scale,
             float clip, float reward_scale, float reward_clip) {
            new (self) Normalizer{.mean = mean,
                                  .scale = scale,
                                  .clip = clip,
                                  .reward_scale = reward_scale,
                                  .reward_clip = reward_clip};
          },
          nb::kw_only(), "mean"_a.none() = nb::none(), "scale"_a.none() = nb::none(),
          "clip"_a = 0.0f, "reward_scale"_a = 0.0f, "reward_clip"_a = 0.0f, R"(
Args:
    mean, scale: [observations]; None: observations are not normalised.
    clip: bound of a normalised observation.
    reward_scale: factor of rewards; 0: rewards are not normalised.
    reward_clip: bound of a scaled reward.
)");
}

template <class Learner>
void bind_use_replay(nb::class_<Learner>& c) {
  c.def(
      "use_replay",
      [](Learner& self, ConstFloats observations, Rows following, ConstFloats actions,
         ConstFloats rewards, Flags ends) {
        self.use_replay({.observations = observations,
                         .following = following,
                         .actions = actions,
                         .rewards = rewards,
                         .ends = ends});
      },
      nb::kw_only(), "observations"_a, "following"_a, "actions"_a, "rewards"_a, "ends"_a, R"(
Learn from the transitions in these arrays in all further gradient steps.

Args:
    observations: [at least rows, observations].
    following: [rows], the row in `observations` of each transition's next observation.
    actions: [rows, actions], scaled to -1 ... 1.
    rewards: [rows].
    ends: [rows], whether the episode terminated; not set where it was truncated.
)");
}

void bind_sac(nb::module_& m) {
  nb::class_<SacLearner> c(m, "Sac", "Gradient steps of SAC.");
  c.def(
      "__init__",
      [](SacLearner* self, std::shared_ptr<Mlp> actor, std::vector<std::shared_ptr<Mlp>> critics,
         Floats entropy, const AdamSettings& adam, int batch, float gamma, float tau,
         bool learn_entropy, float target_entropy, int target_update_interval) {
        new (self) SacLearner({.actor = std::move(actor), .critics = std::move(critics)}, entropy,
                              {.batch = batch, .gamma = gamma, .tau = tau},
                              {.learn_entropy = learn_entropy,
                               .target_entropy = target_entropy,
                               .target_update_interval = target_update_interval},
                              adam);
      },
      nb::kw_only(), "actor"_a, "critics"_a, "entropy"_a, "adam"_a, "batch"_a, "gamma"_a, "tau"_a,
      "learn_entropy"_a, "target_entropy"_a, "target_update_interval"_a, R"(
Args:
    actor: returns the means, then the logarithms of the standard deviations.
    critics: each with a target network.
    entropy: [3], the logarithm of the entropy coefficient and its two moments in Adam.
    adam: Adam of the networks.
    batch: transitions per gradient step.
    gamma: discount factor, 0 to 1.
    tau: Polyak factor of the target networks, 0 to 1.
    learn_entropy: whether the entropy coefficient is learnt.
    target_entropy: target of that learning, in nats.
    target_update_interval: gradient steps between two updates of the target networks.
)");
  c.def(
      "begin",
      [](SacLearner& self, Indices indices, ConstFloats noise, double learning_rate,
         std::int64_t n_done, int n_before, const Normalizer& normalizer) {
        self.begin({.indices = indices, .noise = noise},
                   {.learning_rate = learning_rate, .n_done = n_done}, n_before, normalizer);
      },
      nb::kw_only(), "indices"_a, "noise"_a, "learning_rate"_a, "n_done"_a, "n_before"_a = 0,
      "normalizer"_a = Normalizer{}, R"(
Begin n gradient steps on the engine's other threads; `finish` must follow.

Until then, the rows of the replay buffer in `indices` must not change, nor the rows of
their next observations, and nothing else may use the networks.

Args:
    indices: [n, batch] rows of the replay buffer.
    noise: [n, 2, batch, actions], standard normal, for this observation and the next one.
    learning_rate: of all networks and the entropy coefficient.
    n_done: gradient steps so far.
    n_before: gradient steps before these in the same round of training, which is where
        target_update_interval starts to count.
    normalizer: of observations and rewards.
)");
  c.def(
      "step",
      [](SacLearner& self, Indices indices, ConstFloats noise, double learning_rate,
         std::int64_t n_done, int n_before, const Normalizer& normalizer) {
        self.begin({.indices = indices, .noise = noise},
                   {.learning_rate = learning_rate, .n_done = n_done}, n_before, normalizer);
        return self.finish();
      },
      nb::kw_only(), "indices"_a, "noise"_a, "learning_rate"_a, "n_done"_a, "n_before"_a = 0,
      "normalizer"_a = Normalizer{}, "Do n gradient steps: `begin` and `finish` in one call.");
  c.def("finish", &SacLearner::finish, R"(
Complete the gradient steps that have begun.

Returns:
    [n, 4]: loss of the actor, loss of the critics, entropy coefficient, its loss.
)");
  bind_use_replay(c);
}

void bind_td3(nb::module_& m) {
  nb::class_<Td3Learner> c(m, "Td3", "Gradient steps of TD3.");
  c.def(
      "__init__",
      [](Td3Learner* self, std::shared_ptr<Mlp> actor, std::vector<std::shared_ptr<Mlp>> critics,
         const AdamSettings& adam, int batch, float gamma, float tau, float target_noise,
         float target_noise_clip, int policy_delay) {
        new (self) Td3Learner({.actor = std::move(actor), .critics = std::move(critics)},
                              {.batch = batch, .gamma = gamma, .tau = tau},
                              {.target_noise = target_noise,
                               .target_noise_clip = target_noise_clip,
                               .policy_delay = policy_delay},
                              adam);
      },
      nb::kw_only(), "actor"_a, "critics"_a, "adam"_a, "batch"_a, "gamma"_a, "tau"_a,
      "target_noise"_a, "target_noise_clip"_a, "policy_delay"_a, R"(
Args:
    actor, critics: each with a target network.
    adam: Adam of all networks.
    batch: transitions per gradient step.
    gamma: discount factor, 0 to 1.
    tau: Polyak factor of the target networks, 0 to 1.
    target_noise: standard deviation of the target policy's smoothing noise.
    target_noise_clip: bound of that noise.
    policy_delay: gradient steps of the critics per gradient step of the actor.
)");
  c.def(
      "begin",
      [](Td3Learner& self, Indices indices, ConstFloats noise, double learning_rate,
         std::int64_t n_done, const Normalizer& normalizer) {
        self.begin({.indices = indices, .noise = noise},
                   {.learning_rate = learning_rate, .n_done = n_done}, normalizer);
      },
      nb::kw_only(), "indices"_a, "noise"_a, "learning_rate"_a, "n_done"_a,
      "normalizer"_a = Normalizer{}, R"(
Begin n gradient steps on the engine's other threads; `finish` must follow, as in Sac.

Args:
    indices: [n, batch] rows of the replay buffer.
    noise: [n, batch, actions], standard normal.
    learning_rate: of all networks.
    n_done: gradient steps so far.
    normalizer: of observations and rewards.
)");
  c.def(
      "step",
      [](Td3Learner& self, Indices indices, ConstFloats noise, double learning_rate,
         std::int64_t n_done, const Normalizer& normalizer) {
        self.begin({.indices = indices, .noise = noise},
                   {.learning_rate = learning_rate, .n_done = n_done}, normalizer);
        return self.finish();
      },
      nb::kw_only(), "indices"_a, "noise"_a, "learning_rate"_a, "n_done"_a,
      "normalizer"_a = Normalizer{}, "Do n gradient steps: `begin` and `finish` in one call.");
  c.def("finish", &Td3Learner::finish, R"(
Complete the gradient steps that have begun.

Returns:
    [n, 2]: loss of the actor (NaN in steps where it does not learn), loss of the critics.
)");
  bind_use_replay(c);
}

void bind_ppo(nb::module_& m) {
  nb::class_<PpoLearner> c(m, "Ppo", "Epochs of PPO.");
  c.def(
      "__init__",
      [](PpoLearner* self, std::shared_ptr<Mlp> policy, std::shared_ptr<Mlp> value, Floats log_std,
         Floats log_std_first_moment, Floats log_std_second_moment, const AdamSettings& adam,
         int batch, bool discrete, bool normalize_advantage, float entropy_weight,
         float value_weight, float max_gradient_norm, double target_kl) {
        new (self) PpoLearner({.policy = std::move(policy), .value = std::move(value)},
                              {.parameters = log_std,
                               .first_moment = log_std_first_moment,
                               .second_moment = log_std_second_moment},
                              {.batch = batch,
                               .discrete = discrete,
                               .normalize_advantage = normalize_advantage,
                               .entropy_weight = entropy_weight,
                               .value_weight = value_weight,
                               .max_gradient_norm = max_gradient_norm,
                               .target_kl = target_kl},
                              adam);
      },
      nb::kw_only(), "policy"_a, "value"_a, "log_std"_a, "log_std_first_moment"_a,
      "log_std_second_moment"_a, "adam"_a, "batch"_a, "discrete"_a, "normalize_advantage"_a,
      "entropy_weight"_a, "value_weight"_a, "max_gradient_norm"_a, "target_kl"_a, R"(
Args:
    policy: returns the means of a Gaussian, or the logits of discrete actions.
    value: returns one value.
    log_std: [actions], padded to a panel: the logarithm of the standard deviation.
        Unused for discrete actions, like its two moments.
    adam: Adam of both networks and log_std.
    batch: transitions per gradient step.
    discrete: whether actions are discrete.
    normalize_advantage: to mean 0 and standard deviation 1 in each minibatch.
    entropy_weight, value_weight: weights of these two losses; the policy's has weight 1.
    max_gradient_norm: bound of the gradient's norm.
    target_kl: an epoch ends early if the KL divergence exceeds 1.5 times this; in nats;
        0: never.
)");
  c.def(
      "epoch",
      [](PpoLearner& self, Indices indices, ConstFloats observations, ConstFloats actions,
         ConstFloats values, ConstFloats log_probs, ConstFloats advantages, ConstFloats returns,
         double learning_rate, std::int64_t n_done, float clip_range, float clip_range_value) {
        return self.epoch(indices,
                          {.observations = observations,
                           .actions = actions,
                           .values = values,
                           .log_probs = log_probs,
                           .advantages = advantages,
                           .returns = returns},
                          {.learning_rate = learning_rate, .n_done = n_done},
                          {.clip_range = clip_range, .clip_range_value = clip_range_value});
      },
      nb::kw_only(), "indices"_a, "observations"_a, "actions"_a, "values"_a, "log_probs"_a,
      "advantages"_a, "returns"_a, "learning_rate"_a, "n_done"_a, "clip_range"_a,
      "clip_range_value"_a = 0.0f, R"(
Do one pass over a rollout of n transitions.

Args:
    indices: rows of the rollout, in the order to learn from them.
    observations: [n, observations], already normalised.
    actions: [n, actions], or [n, 1] if they are discrete.
    values, log_probs: [n], from when the rollout was collected.
    advantages, returns: [n].
    learning_rate: of both networks and log_std.
    n_done: gradient steps so far.
    clip_range: of the probability ratio.
    clip_range_value: of the value function, in its own units; 0: not clipped.

Returns:
    The losses [minibatches, 6]: policy, value, entropy, share of clipped ratios,
    approximate KL divergence in nats, weighted sum of the first three; and the number of
    minibatches that changed the networks, which is smaller if target_kl was exceeded.
)");
}

void bind_physics(nb::module_& m) {
  m.attr("TERMINATED") = static_cast<int>(TERMINATED);
  m.attr("TIME_LIMIT") = static_cast<int>(TIME_LIMIT);
  m.attr("UNSTABLE") = static_cast<int>(UNSTABLE);
  m.attr("BAD_ACTION") = static_cast<int>(BAD_ACTION);
  m.attr("BAD_OBSERVATION") = static_cast<int>(BAD_OBSERVATION);
  m.attr("BAD_REWARD") = static_cast<int>(BAD_REWARD);
  m.attr("FAILED") = static_cast<int>(FAILED);
  nb::class_<PythonPhysics> c(m, "Physics", R"(
Timesteps of Gymnasium's MuJoCo tasks, several environments at once.

Physics, observations and rewards have the bits of Gymnasium's own code. Resets are Gymnasium's.
)");
  c.def(
      "__init__",
      [](PythonPhysics* self, std::uintptr_t mj_step, std::uintptr_t mj_rne_post_constraint,
         std::uintptr_t mju_user_error, Doubles observations, Floats rewards, Bytes events,
         std::ptrdiff_t n_observations, std::ptrdiff_t n_actions, double largest_reward,
         int n_threads) {
        new (self)
            PythonPhysics({.step = mj_step,
                           .rne_post_constraint = mj_rne_post_constraint,
                           .on_error = mju_user_error},
                          {.observations = observations, .rewards = rewards, .events = events},
                          {.n_observations = n_observations,
                           .n_actions = n_actions,
                           .largest_reward = largest_reward},
                          n_threads);
      },
      nb::kw_only(), "mj_step"_a, "mj_rne_post_constraint"_a, "mju_user_error"_a, "observations"_a,
      "rewards"_a, "events"_a, "n_observations"_a, "n_actions"_a, "largest_reward"_a, "n_threads"_a,
      R"(
Args:
    mj_step, mj_rne_post_constraint, mju_user_error: addresses of these functions, and of
        this variable, in the MuJoCo library of the process.
    observations: [environments, n_observations]; `step` fills this and the next two arrays.
    rewards: [environments].
    events: [environments], sums of TERMINATED, TIME_LIMIT, UNSTABLE, BAD_ACTION,
        BAD_OBSERVATION, BAD_REWARD and FAILED.
    n_observations, n_actions: of one environment.
    largest_reward: limit of a reward's absolute value.
    n_threads: threads that share the environments.
)");
  c.def(
      "add",
      [](PythonPhysics& self, std::uintptr_t model, std::uintptr_t data, int frame_skip,
         double seconds, Doubles controls, Counters unstable, std::int64_t time_limit,
         std::vector<Bounded> observation, ConstDoubles position, std::optional<ConstDoubles> mass,
         double total_mass, std::vector<Conditional> health, bool terminates, double forward_weight,
         std::optional<double> healthy_reward, double control_weight, bool control_in_double,
         double contact_weight, std::optional<Bounded> contact_forces,
         std::pair<double, double> contact_cost) {
        self.add({.model = model,
                  .data = data,
                  .frame_skip = frame_skip,
                  .seconds = seconds,
                  .controls = controls,
                  .unstable = unstable,
                  .time_limit = time_limit,
                  .observation = std::move(observation),
                  .position = position,
                  .mass = std::move(mass),
                  .total_mass = total_mass,
                  .health = std::move(health),
                  .terminates = terminates,
                  .forward_weight = forward_weight,
                  .healthy_reward = healthy_reward,
                  .control_weight = control_weight,
                  .control_in_double = control_in_double,
                  .contact_weight = contact_weight,
                  .contact_forces = std::move(contact_forces),
                  .contact_cost = contact_cost});
      },
      nb::kw_only(), "model"_a, "data"_a, "frame_skip"_a, "seconds"_a, "controls"_a, "unstable"_a,
      "time_limit"_a, "observation"_a, "position"_a, "mass"_a.none() = nb::none(),
      "total_mass"_a = 0.0, "health"_a = std::vector<Conditional>{}, "terminates"_a = false,
      "forward_weight"_a, "healthy_reward"_a.none() = nb::none(), "control_weight"_a,
      "control_in_double"_a = false, "contact_weight"_a = 0.0,
      "contact_forces"_a.none() = nb::none(),
      "contact_cost"_a = std::pair{-std::numeric_limits<double>::infinity(),
                                   std::numeric_limits<double>::infinity()},
      R"(
Add an environment. Arrays are views of its MjModel and MjData, which the caller keeps.

Args:
    model, data: addresses of the environment's MjModel and MjData.
    frame_skip: physics steps of a timestep.
    seconds: duration of a timestep.
    controls: MjData.ctrl, [n_actions].
    unstable: three counters of MjData's warnings; the physics is unstable if one is not 0.
    time_limit: timesteps of an episode; 0: none.
    observation: its parts in their order, as (numbers, low, high): clipped to these bounds.
    position: x of the body; or, with `mass`, the centres [bodies, 3] of all bodies.
    mass: [bodies]; the velocity is then that of the centre of mass.
    total_mass: sum of `mass`.
    health: conditions (numbers, low, high, inclusive), all of which a healthy body meets.
    terminates: whether an episode ends when the body is not healthy.
    forward_weight: of the velocity in the reward.
    healthy_reward: of a timestep in health; None: no such term.
    control_weight: of the sum of squared actions, subtracted.
    control_in_double: take that sum over `controls`, not in the precision of the actions.
    contact_weight: of the sum of squared contact forces, subtracted.
    contact_forces: (forces, low, high): clipped to these bounds; None: no such term.
    contact_cost: bounds (low, high) of the contact cost.
)");
  c.def("begin", &PythonPhysics::begin, "index"_a,
        "Begin an episode of this environment, which the caller has reset.");
  c.def("pause", &PythonPhysics::pause, "index"_a,
        "Leave this environment out of `step`, until its next episode begins.");
  const char* step = R"(
Step all environments that are not paused; return whether there is an event.

Environments from the first one with a BAD_ACTION on are not stepped. Those that are not
stepped have no event, and their rows keep their values.

Args:
    actions: [environments, n_actions].
)";
  c.def("step", &PythonPhysics::step<ConstFloats>, nb::arg("actions").noconvert(), step);
  c.def("step", &PythonPhysics::step<ConstDoubles>, nb::arg("actions").noconvert(), step);
  c.def("rewards", &PythonPhysics::rewards, "index"_a,
        "Rewards of this environment since its episode began.");
  c.def("sums", &PythonPhysics::sums, "index"_a,
        nb::sig("def sums(self, index: int) -> dict[str, float]"), R"(
Sums of the reward and of its terms since this environment's episode began.

The names are those in Gymnasium's `info`. A timestep with a BAD_OBSERVATION does not count.
)");
  c.def("error", &PythonPhysics::error, "index"_a,
        "MuJoCo's message of the latest FAILED step of this environment.");
}

void bind_physics_log(nb::module_& m) {
  nb::class_<PythonPhysicsLog> c(m, "PhysicsLog", R"(
What MuJoCo's MjData holds at every physics step, copied while the steps are taken.
)");
  c.def(
      "__init__",
      [](PythonPhysicsLog* self, std::uintptr_t mj_step, std::uintptr_t mj_forward,
         std::uintptr_t mj_forward_skip, std::uintptr_t mj_check_pos, std::uintptr_t mj_check_vel,
         std::uintptr_t mj_check_acc, std::uintptr_t mj_contact_force,
         std::uintptr_t mj_integrate_pos, std::uintptr_t mju_add_to_scl,
         std::uintptr_t mju_user_error, std::ptrdiff_t time, std::ptrdiff_t ncon,
         std::ptrdiff_t contact, std::ptrdiff_t contact_size, std::ptrdiff_t pos,
         std::ptrdiff_t frame, std::ptrdiff_t dist, std::ptrdiff_t geom, std::uintptr_t model,
         std::uintptr_t data, Doubles qpos, Doubles qvel, Doubles qacc, Doubles qacc_warmstart,
         std::vector<Doubles> row, Rows geom_bodyid, Rows body_rootid, Doubles xpos, Doubles xmat,
         Doubles cvel, Doubles subtree_com, double timestep, bool is_rk4) {
        using Step = LogFunctions::OfData;
        LogFunctions functions{};
        functions.step = reinterpret_cast<Step>(mj_step);
        functions.forward = reinterpret_cast<Step>(mj_forward);
        functions.check_pos = reinterpret_cast<Step>(mj_check_pos);
        functions.check_vel = reinterpret_cast<Step>(mj_check_vel);
        functions.check_acc = reinterpret_cast<Step>(mj_check_acc);
        functions.forward_skip =
            reinterpret_cast<decltype(functions.forward_skip)>(mj_forward_skip);
        functions.contact_force =
            reinterpret_cast<decltype(functions.contact_force)>(mj_contact_force);
        functions.integrate_pos =
            reinterpret_cast<decltype(functions.integrate_pos)>(mj_integrate_pos);
        functions.add_to_scl = reinterpret_cast<decltype(functions.add_to_scl)>(mju_add_to_scl);
        functions.on_error = reinterpret_cast<OnMujocoError*>(mju_user_error);
        new (self) PythonPhysicsLog({.functions = functions,
                                     .layout = {.time = time,
                                                .n_contacts = ncon,
                                                .contacts = contact,
                                                .contact_size = contact_size,
                                                .pos = pos,
                                                .frame = frame,
                                                .dist = dist,
                                                .geom = geom},
                                     .model = model,
                                     .data = data,
                                     .qpos = qpos,
                                     .qvel = qvel,
                                     .qacc = qacc,
                                     .qacc_warmstart = qacc_warmstart,
                                     .row = std::move(row),
                                     .geom_bodyid = geom_bodyid,
                                     .body_rootid = body_rootid,
                                     .xpos = xpos,
                                     .xmat = xmat,
                                     .cvel = cvel,
                                     .subtree_com = subtree_com,
                                     .timestep = timestep,
                                     .is_rk4 = is_rk4});
      },
      nb::kw_only(), "mj_step"_a, "mj_forward"_a, "mj_forward_skip"_a, "mj_check_pos"_a,
      "mj_check_vel"_a, "mj_check_acc"_a, "mj_contact_force"_a, "mj_integrate_pos"_a,
      "mju_add_to_scl"_a, "mju_user_error"_a, "time"_a, "ncon"_a, "contact"_a, "contact_size"_a,
      "pos"_a, "frame"_a, "dist"_a, "geom"_a, "model"_a, "data"_a, "qpos"_a, "qvel"_a, "qacc"_a,
      "qacc_warmstart"_a, "row"_a, "geom_bodyid"_a, "body_rootid"_a, "xpos"_a, "xmat"_a, "cvel"_a,
      "subtree_com"_a, "timestep"_a, "is_rk4"_a, R"(
Args:
    mj_step, mj_forward, mj_forward_skip, mj_check_pos, mj_check_vel, mj_check_acc,
        mj_contact_force, mj_integrate_pos, mju_add_to_scl: addresses of these functions in
        the MuJoCo library of the process.
    mju_user_error: address of this variable.
    time, ncon, contact: offsets of these fields in an mjData.
    contact_size, pos, frame, dist, geom: size of an mjContact, and offsets of its fields.
    model, data: addresses of the mjModel and mjData.
    qpos, qvel, qacc, qacc_warmstart: arrays of that mjData.
    row: arrays of it that are copied at every step, one after the other.
    geom_bodyid, body_rootid: arrays of the mjModel.
    xpos, xmat, cvel, subtree_com: arrays of the mjData; rows of pushed bodies are copied.
    timestep: of the physics, in s.
    is_rk4: whether the integrator is RK4: a row is then added for each of its four stages.
)");
  c.def("step", &PythonPhysicsLog::step, "n"_a, R"(
Take physics steps, and add a row for each.

Raises:
    RuntimeError: with MuJoCo's message, if it fails.
)");
  c.def("arrays", &PythonPhysicsLog::arrays,
        nb::sig("def arrays(self) -> dict[str, NDArray[typing.Any]]"), R"(
Return copies of what was recorded.

Returns:
    `rows` [rows, numbers]; and of each contact that pushes: its row in `contact_rows`; its
    `geoms` [contacts, 2]; `contacts` [contacts, 16]: position, three axes, distance, and
    force along each axis; `bodies` [contacts, 42]: of each geom's body the position,
    rotation and spatial velocity, and the centre of mass of its tree.
)");
}

}  // namespace
}  // namespace gallop

NB_MODULE(_kernels, m) {
  m.doc() = "The compiled kernels: networks and gradient steps over NumPy arrays.";
  m.attr("PANEL") = gallop::PANEL;
  gallop::bind_functions(m);
  gallop::bind_networks(m);
  gallop::bind_settings(m);
  gallop::bind_sac(m);
  gallop::bind_td3(m);
  gallop::bind_ppo(m);
  gallop::bind_physics(m);
  gallop::bind_physics_log(m);
}
