// Python's view of PPO, and the advantages of its rollouts.
#pragma once

#include "learner.hpp"

namespace gallop {

struct PpoNetworks {
  std::shared_ptr<Mlp> policy, value;
};

// The logarithm of the standard deviation and its two moments in Adam, each padded to a panel.
struct LogStd {
  Floats parameters, first_moment, second_moment;
};

// The arrays of a rollout; see Rollout.
struct RolloutArrays {
  ConstFloats observations, actions, values, log_probs, advantages, returns;
};

struct PpoLearner {
  std::shared_ptr<Mlp> policy, value;
  LogStd log_std;
  Ppo ppo{};
  AdamSettings adam;
  Memory memory;

  PpoLearner(const PpoNetworks& networks, const LogStd& log_std_, const PpoSettings& settings,
             const AdamSettings& adam_)
      : policy(networks.policy), value(networks.value), log_std(log_std_), adam(adam_) {
    const int batch = settings.batch;
    require(batch >= 1, "batch must be at least 1");
    require(policy->engine == value->engine, "all networks must use the same engine");
    require(policy->network.inputs() == value->network.inputs() && value->network.outputs() == 1,
            "the value function must take the policy's observations and return one value");
    const int n = policy->network.outputs();
    const auto padded = static_cast<std::size_t>(panel_floats(1, n));
    for (const Floats* each : {&log_std.parameters, &log_std.first_moment, &log_std.second_moment})
      require(each->size() == padded,
              "log_std and its moments must be padded to " + std::to_string(padded));
    require_moments(policy->network);
    require_moments(value->network);
    static_cast<PpoSettings&>(ppo) = settings;
    ppo.n_observations = policy->network.inputs();
    ppo.n_actions = n;
    ppo.policy_batch = Mlp::make_batch(memory, policy->network, batch, {.input = true});
    ppo.value_batch = Mlp::make_batch(memory, value->network, batch, {.input = true});
    ppo.policy_gradients = Mlp::make_batch(memory, policy->network, batch, {.update_threads = 1});
    ppo.value_gradients = Mlp::make_batch(memory, value->network, batch, {.update_threads = 1});
    ppo.policy_gradient = memory.floats(policy->network.size);
    ppo.value_gradient = memory.floats(value->network.size);
    ppo.log_std_gradient = memory.floats(panel_floats(1, n));
    ppo.advantages = memory.floats(batch);
  }

  // One epoch. Returns the losses of every minibatch, and the number of minibatches that changed
  // the networks.
  std::tuple<nb::ndarray<nb::numpy, double>, int> epoch(const Indices& indices,
                                                        const RolloutArrays& given,
                                                        const Progress& progress,
                                                        const PpoClipping& clipping) {
    const auto rows = static_cast<std::int64_t>(given.values.size());
    const auto holds = [&](const ConstFloats& array, int columns) {
      require(static_cast<std::int64_t>(array.size()) == rows * columns,
              "every array of the rollout must have " + std::to_string(rows) + " rows");
    };
    holds(given.observations, ppo.n_observations);
    holds(given.actions, ppo.discrete ? 1 : ppo.n_actions);
    for (const auto* array : {&given.log_probs, &given.advantages, &given.returns})
      holds(*array, 1);
    for (std::size_t i = 0; i < indices.size(); i++) {
      const std::int64_t row = indices.data()[i];
      if (row < 0 || row >= rows)
        throw std::out_of_range("index " + std::to_string(row) + " is not in the rollout");
      if (ppo.discrete) {
        const float action = given.actions.data()[row];
        require(action >= 0 && action < static_cast<float>(ppo.n_actions),
                "an action is out of range");
      }
    }
    const int n = static_cast<int>(indices.size()), n_batches = (n + ppo.batch - 1) / ppo.batch;
    std::vector<PpoLosses> losses(n_batches);
    int n_learnt = 0;
    {
      nb::gil_scoped_release released;
      Engine& engine = *policy->engine;
      const Use use(engine);
      ppo.policy = policy->network;
      ppo.value = value->network;
      ppo.log_std = {.parameters = log_std.parameters.data(),
                     .first_moment = log_std.first_moment.data(),
                     .second_moment = log_std.second_moment.data(),
                     .target = nullptr};
      static_cast<PpoClipping&>(ppo) = clipping;
      const Rollout rollout{.observations = given.observations.data(),
                            .actions = given.actions.data(),
                            .values = given.values.data(),
                            .log_probs = given.log_probs.data(),
                            .advantages = given.advantages.data(),
                            .returns = given.returns.data()};
      const auto adams = adam.from(progress, n_batches);
      n_learnt = engine.kernels->ppo(ppo, rollout, indices.data(), n, adams.data(), engine.team,
                                     losses.data());
    }
    losses.resize(std::min(n_learnt + 1, n_batches));  // including the one that exceeded target_kl
    std::vector<double> table;
    for (const PpoLosses& l : losses)
      table.insert(table.end(),
                   {l.policy, l.value, l.entropy, l.clip_fraction, l.approximate_kl, l.total});
    return {rows_of<6>(std::move(table)), n_learnt};
  }
};

// The inputs of advantages(): [n_steps, n_envs], the last two [n_envs]. starts is 1 where an
// episode begins, so that no advantage is propagated back across it.
struct AdvantageArrays {
  ConstFloats rewards, values, starts, last_values, last_starts;
};

struct AdvantageSettings {
  float gamma;       // discount factor
  float gae_lambda;  // of generalised advantage estimation
};

// Generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438).
inline nb::ndarray<nb::numpy, float> advantages(const AdvantageArrays& given,
                                                const AdvantageSettings& settings) {
  const auto& [rewards, values, starts, last_values, last_starts] = given;
  const auto [gamma, gae_lambda] = settings;
  require(rewards.ndim() == 2, "rewards must be [n_steps, n_envs]");
  const auto n_steps = static_cast<std::ptrdiff_t>(rewards.shape(0));
  const auto n_envs = static_cast<std::ptrdiff_t>(rewards.shape(1));
  require(values.size() == rewards.size() && starts.size() == rewards.size() &&
              static_cast<std::ptrdiff_t>(last_values.size()) == n_envs &&
              static_cast<std::ptrdiff_t>(last_starts.size()) == n_envs,
          "values and starts must have the shape of rewards, last_values and last_starts [n_envs]");
  auto* out = new float[rewards.size()];
  nb::capsule owner(out, [](void* p) noexcept { delete[] static_cast<float*>(p); });
  for (std::ptrdiff_t env = 0; env < n_envs; env++) {
    float advantage = 0, next_value = last_values.data()[env];
    float goes_on = 1 - last_starts.data()[env];
    for (std::ptrdiff_t step = n_steps - 1; step >= 0; step--) {
      const std::ptrdiff_t at = step * n_envs + env;
      const float value = values.data()[at];
      const float error = rewards.data()[at] + gamma * next_value * goes_on - value;
      advantage = error + gamma * gae_lambda * goes_on * advantage;
      out[at] = advantage;
      next_value = value;
      goes_on = 1 - starts.data()[at];
    }
  }
  return {out, {rewards.shape(0), rewards.shape(1)}, owner};
}

}  // namespace gallop
