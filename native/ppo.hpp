// Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347): one minibatch, in the
// order of Stable-Baselines3's PPO.train. Policy and value function run on a thread each.
#pragma once

#include "actor_critic.hpp"

namespace gallop::ISA {

// Changes a batch's number of rows. That moves every panel, so the padding must be zeroed again.
INLINE void set_rows(Batch& batch, int rows) {
  if (batch.rows == rows) return;
  std::memset(batch.memory, 0, static_cast<std::size_t>(batch.size) * sizeof(float));
  batch.rows = rows;
}

// Sum of squares.
inline double squares(const float* x, std::ptrdiff_t n) {
  double total = 0;
  for (std::ptrdiff_t at = 0; at < n; at += LANES) {
    const Vec v = load(x + at);
    total += static_cast<double>(sum(v * v));
  }
  return total;
}

// An Adam step on a whole array of gradients, multiplied by `scale`.
inline void adam(const Weights& weights, const float* gradient, std::ptrdiff_t n, float scale,
                 const Adam& how) {
  const AdamStep step{weights, how, 0};
  for (std::ptrdiff_t at = 0; at < n; at += LANES) step(at, load(gradient + at) * all(scale));
}

// Copies the minibatch's advantages; normalises them to mean 0 and standard deviation 1 (with n -
// 1, as in torch).
inline void gather_advantages(const Ppo& s, const Rollout& rollout, const std::int64_t* indices,
                              int rows) {
  double mean = 0, square = 0;
  for (int row = 0; row < rows; row++) {
    s.advantages[row] = rollout.advantages[indices[row]];
    mean += s.advantages[row];
  }
  if (!s.normalize_advantage || rows < 2) return;
  mean /= rows;
  for (int row = 0; row < rows; row++) {
    const double d = s.advantages[row] - mean;
    square += d * d;
  }
  const double scale = 1 / (__builtin_sqrt(square / (rows - 1)) + 1e-8);
  for (int row = 0; row < rows; row++)
    s.advantages[row] = static_cast<float>((s.advantages[row] - mean) * scale);
}

// Accumulates the losses. add() takes a row's new log-probability and returns the derivative of the
// policy loss with respect to it.
struct Surrogate {
  double policy = 0, clipped = 0, divergence = 0;

  INLINE float add(const Ppo& s, double log_prob, float old, float advantage, int rows) {
    const float log_ratio = static_cast<float>(log_prob - old), ratio = __builtin_expf(log_ratio);
    const float low = 1 - s.clip_range, high = 1 + s.clip_range;
    const float bounded = ratio < low ? low : ratio > high ? high : ratio;
    const float plain = advantage * ratio, other = advantage * bounded;
    policy -= minimum(plain, other);
    clipped += __builtin_fabsf(ratio - 1) > s.clip_range;
    divergence += (ratio - 1) - log_ratio;
    return plain <= other ? -plain / static_cast<float>(rows) : 0;
  }
};

inline void finish(PpoLosses& losses, const Surrogate& surrogate, double entropy, int rows) {
  losses.policy = static_cast<float>(surrogate.policy / rows);
  losses.clip_fraction = static_cast<float>(surrogate.clipped / rows);
  losses.approximate_kl = static_cast<float>(surrogate.divergence / rows);
  losses.entropy = static_cast<float>(-entropy);
}

// Losses and gradients of a diagonal Gaussian whose standard deviation does not depend on the
// observation.
inline void gaussian_policy(Ppo& s, const Batch& batch, const Batch& gradients,
                            const Rollout& rollout, const std::int64_t* indices,
                            PpoLosses& losses) {
  const int rows = batch.rows;
  double entropy = 0, normalizer = 0;
  for (int i = 0; i < s.n_actions; i++) {
    entropy += 0.5 + HALF_LOG_2_PI + s.log_std.parameters[i];
    normalizer += s.log_std.parameters[i] + HALF_LOG_2_PI;
    s.log_std_gradient[i] = -s.entropy_weight;
  }
  Surrogate surrogate;
  for (int row = 0; row < rows; row++) {
    const float* action = rollout.actions + indices[row] * s.n_actions;
    double log_prob = -normalizer;
    for (int i = 0; i < s.n_actions; i++) {
      const float z =
          (action[i] - batch.output(s.policy, row, i)) * __builtin_expf(-s.log_std.parameters[i]);
      log_prob -= 0.5 * static_cast<double>(z) * z;
    }
    const float slope =
        surrogate.add(s, log_prob, rollout.log_probs[indices[row]], s.advantages[row], rows);
    for (int i = 0; i < s.n_actions; i++) {
      const float inverse = __builtin_expf(-s.log_std.parameters[i]);
      const float z = (action[i] - batch.output(s.policy, row, i)) * inverse;
      gradients.output(s.policy, row, i) = slope * z * inverse;
      s.log_std_gradient[i] += slope * (z * z - 1);
    }
  }
  finish(losses, surrogate, entropy, rows);
}

// Losses and gradients of a categorical distribution.
inline void categorical_policy(Ppo& s, const Batch& batch, const Batch& gradients,
                               const Rollout& rollout, const std::int64_t* indices,
                               PpoLosses& losses) {
  const int rows = batch.rows;
  double entropy = 0;
  Surrogate surrogate;
  for (int row = 0; row < rows; row++) {
    float largest = batch.output(s.policy, row, 0);
    double total = 0;
    for (int i = 1; i < s.n_actions; i++)
      largest = -minimum(-largest, -batch.output(s.policy, row, i));
    for (int i = 0; i < s.n_actions; i++)
      total += __builtin_expf(batch.output(s.policy, row, i) - largest);
    const double normalizer = largest + __builtin_log(total);
    float uncertainty = 0;
    for (int i = 0; i < s.n_actions; i++) {
      const float log_p = static_cast<float>(batch.output(s.policy, row, i) - normalizer);
      uncertainty -= __builtin_expf(log_p) * log_p;
    }
    entropy += uncertainty;
    const int chosen = static_cast<int>(rollout.actions[indices[row]]);
    const float slope = surrogate.add(s, batch.output(s.policy, row, chosen) - normalizer,
                                      rollout.log_probs[indices[row]], s.advantages[row], rows);
    for (int i = 0; i < s.n_actions; i++) {
      const float log_p = static_cast<float>(batch.output(s.policy, row, i) - normalizer);
      const float p = __builtin_expf(log_p);
      gradients.output(s.policy, row, i) =
          slope * (static_cast<float>(i == chosen) - p) +
          s.entropy_weight / static_cast<float>(rows) * p * (log_p + uncertainty);
    }
  }
  finish(losses, surrogate, entropy / rows, rows);
}

// Forward pass of a network on these rows of the rollout. Its observations are already normalised.
inline void forward_minibatch(const Ppo& s, const Network& network, const Rollout& rollout,
                              const std::int64_t* indices, int rows, Batch& batch,
                              Batch& gradients) {
  set_rows(batch, rows);
  set_rows(gradients, rows);
  for (int row = 0; row < rows; row++)
    put_observation({}, rollout.observations + indices[row] * s.n_observations, s.n_observations,
                    batch.input, rows, row);
  forward(network, network.parameters, batch, 0, rows);
}

inline void ppo_policy_gradient(Ppo& s, const Rollout& rollout, const std::int64_t* indices,
                                int rows, PpoLosses& losses) {
  Batch &batch = s.policy_batch, &gradients = s.policy_gradients;
  forward_minibatch(s, s.policy, rollout, indices, rows, batch, gradients);
  gather_advantages(s, rollout, indices, rows);
  (s.discrete ? categorical_policy : gaussian_policy)(s, batch, gradients, rollout, indices,
                                                      losses);
  backward(s.policy, batch, gradients, 0, rows);
  update(s.policy, batch, gradients, 0, 1, 0, KeepGradient{s.policy_gradient});
  s.policy_norm = squares(s.policy_gradient, s.policy.size);
  if (!s.discrete) s.policy_norm += squares(s.log_std_gradient, panel_floats(1, s.n_actions));
}

inline void ppo_value_gradient(Ppo& s, const Rollout& rollout, const std::int64_t* indices,
                               int rows, PpoLosses& losses) {
  Batch &batch = s.value_batch, &gradients = s.value_gradients;
  forward_minibatch(s, s.value, rollout, indices, rows, batch, gradients);
  double loss = 0;
  for (int row = 0; row < rows; row++) {
    const float old = rollout.values[indices[row]];
    float value = batch.output(s.value, row, 0);
    bool moves = true;
    if (s.clip_range_value > 0) {
      const float change = value - old;
      moves = __builtin_fabsf(change) <= s.clip_range_value;
      value = old + clipped(change, s.clip_range_value);
    }
    const float error = value - rollout.returns[indices[row]];
    loss += static_cast<double>(error) * error;
    gradients.output(s.value, row, 0) =
        moves ? 2 * s.value_weight * error / static_cast<float>(rows) : 0;
  }
  losses.value = static_cast<float>(loss / rows);
  backward(s.value, batch, gradients, 0, rows);
  update(s.value, batch, gradients, 0, 1, 0, KeepGradient{s.value_gradient});
  s.value_norm = squares(s.value_gradient, s.value.size);
}

// One minibatch. Returns whether to continue: false if the policy moved further than target_kl
// allows.
inline bool ppo_step(Ppo& s, const Rollout& rollout, const std::int64_t* indices, int rows,
                     const Adam& how, Worker& worker, PpoLosses& losses) {
  worker.divide(2, [&](int which) INLINE_LAMBDA {
    (which == 0 ? ppo_policy_gradient : ppo_value_gradient)(s, rollout, indices, rows, losses);
  });
  if (s.target_kl != 0 && !(losses.approximate_kl <= 1.5 * s.target_kl)) return false;
  worker.divide(2, [&](int which) INLINE_LAMBDA {
    const double norm = __builtin_sqrt(s.policy_norm + s.value_norm);
    const double bound = s.max_gradient_norm / (norm + 1e-6);
    const float scale = bound < 1 ? static_cast<float>(bound) : 1.0f;
    if (which == 0) {
      adam(s.policy, s.policy_gradient, s.policy.size, scale, how);
      refresh(s.policy);
      if (!s.discrete)
        adam(s.log_std, s.log_std_gradient, panel_floats(1, s.n_actions), scale, how);
    } else {
      adam(s.value, s.value_gradient, s.value.size, scale, how);
      refresh(s.value);
    }
  });
  return true;
}

}  // namespace gallop::ISA
