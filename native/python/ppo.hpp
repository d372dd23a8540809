// PPO as Python holds it, and the advantages of its rollouts.
#pragma once

#include "learner.hpp"

namespace gallop {

struct PpoLearner {
  std::shared_ptr<Mlp> policy, value;
  Floats log_std, log_std_first, log_std_second;
  Ppo ppo{};
  AdamSettings adam;
  Memory memory;

  PpoLearner(std::shared_ptr<Mlp> policy_, std::shared_ptr<Mlp> value_, bool discrete,
             Floats log_std_, Floats first, Floats second, int batch, bool normalize_advantage,
             float entropy_weight, float value_weight, float max_gradient_norm, double target_kl,
             double beta1, double beta2, double epsilon, double weight_decay)
      : policy(std::move(policy_)),
        value(std::move(value_)),
        log_std(log_std_),
        log_std_first(first),
        log_std_second(second),
        adam{beta1, beta2, epsilon, weight_decay} {
    require(batch >= 1, "a batch has at least one row");
    require(policy->engine == value->engine, "all networks run on one engine");
    require(policy->network.inputs() == value->network.inputs() && value->network.outputs() == 1,
            "the value function takes the policy's observations and gives one value");
    const int n = policy->network.outputs();
    const auto padded = static_cast<std::size_t>(panel_floats(1, n));
    require(log_std.size() == padded && first.size() == padded && second.size() == padded,
            "log_std and its moments are padded to " + std::to_string(padded));
    require_moments(policy->network);
    require_moments(value->network);
    ppo.batch = batch;
    ppo.n_observations = policy->network.inputs();
    ppo.n_actions = n;
    ppo.discrete = discrete;
    ppo.normalize_advantage = normalize_advantage;
    ppo.entropy_weight = entropy_weight;
    ppo.value_weight = value_weight;
    ppo.max_gradient_norm = max_gradient_norm;
    ppo.target_kl = target_kl;
    ppo.policy_batch = Mlp::make_batch(memory, *policy->engine, policy->network, batch, true);
    ppo.value_batch = Mlp::make_batch(memory, *policy->engine, value->network, batch, true);
    ppo.policy_gradients = Mlp::make_batch(memory, *policy->engine, policy->network, batch, false);
    ppo.value_gradients = Mlp::make_batch(memory, *policy->engine, value->network, batch, false);
    ppo.policy_gradient = memory.floats(policy->network.size);
    ppo.value_gradient = memory.floats(value->network.size);
    ppo.log_std_gradient = memory.floats(panel_floats(1, n));
    ppo.advantages = memory.floats(batch);
  }

  // One epoch. Losses of every minibatch, and how many of them changed the networks.
  std::tuple<nb::ndarray<nb::numpy, double>, int> epoch(Indices indices, ConstFloats observations,
                                                        ConstFloats actions, ConstFloats values,
                                                        ConstFloats log_probs,
                                                        ConstFloats advantages, ConstFloats returns,
                                                        double learning_rate, std::int64_t n_done,
                                                        float clip_range, float clip_range_value) {
    const auto rows = static_cast<std::int64_t>(values.size());
    const auto holds = [&](const ConstFloats& array, int columns) {
      require(static_cast<std::int64_t>(array.size()) == rows * columns,
              "the rollout's arrays have " + std::to_string(rows) + " rows each");
    };
    holds(observations, ppo.n_observations);
    holds(actions, ppo.discrete ? 1 : ppo.n_actions);
    for (const auto* array : {&log_probs, &advantages, &returns}) holds(*array, 1);
    for (std::size_t i = 0; i < indices.size(); i++) {
      const std::int64_t row = indices.data()[i];
      if (row < 0 || row >= rows)
        throw std::out_of_range("index " + std::to_string(row) + " is not in the rollout");
      if (ppo.discrete) {
        const float action = actions.data()[row];
        require(action >= 0 && action < static_cast<float>(ppo.n_actions),
                "an action is not one of the choices");
      }
    }
    const int n = static_cast<int>(indices.size()), n_batches = (n + ppo.batch - 1) / ppo.batch;
    std::vector<PpoLosses> losses(n_batches);
    int n_learnt = 0;
    {
      nb::gil_scoped_release released;
      Engine& engine = *policy->engine;
      const std::lock_guard lock(engine.busy);
      ppo.policy = policy->network;
      ppo.value = value->network;
      ppo.log_std = {log_std.data(), log_std_first.data(), log_std_second.data(), nullptr};
      ppo.clip_range = clip_range;
      ppo.clip_range_value = clip_range_value;
      const Rollout rollout{observations.data(), actions.data(),    values.data(),
                            log_probs.data(),    advantages.data(), returns.data()};
      const auto adams = adam.from(learning_rate, n_done, n_batches);
      n_learnt = engine.kernels->ppo(ppo, rollout, indices.data(), n, adams.data(), engine.team,
                                     losses.data());
    }
    losses.resize(std::min(n_learnt + 1, n_batches));  // that which went too far was looked at too
    std::vector<double> table;
    for (const PpoLosses& l : losses)
      table.insert(table.end(),
                   {l.policy, l.value, l.entropy, l.clip_fraction, l.approximate_kl, l.total});
    return {rows_of<6>(std::move(table)), n_learnt};
  }
};

// Generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438), [n_steps, n_envs]:
// starts is 1 where an episode begins, so that nothing flows back across it.
inline nb::ndarray<nb::numpy, float> advantages(ConstFloats rewards, ConstFloats values,
                                                ConstFloats starts, ConstFloats last_values,
                                                ConstFloats last_starts, float gamma,
                                                float gae_lambda) {
  require(rewards.ndim() == 2, "rewards are [steps, environments]");
  const auto n_steps = static_cast<std::ptrdiff_t>(rewards.shape(0));
  const auto n_envs = static_cast<std::ptrdiff_t>(rewards.shape(1));
  require(values.size() == rewards.size() && starts.size() == rewards.size() &&
              static_cast<std::ptrdiff_t>(last_values.size()) == n_envs &&
              static_cast<std::ptrdiff_t>(last_starts.size()) == n_envs,
          "values and starts have the shape of rewards, the last ones have one entry each");
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
