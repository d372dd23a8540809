// Soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905): one gradient step, in the order of
// Stable-Baselines3's SAC.train. Threads divide the networks between them.
#pragma once

#include "actor_critic.hpp"

namespace gallop::ISA {

constexpr float LOG_STD_MIN = -20, LOG_STD_MAX = 2;  // SB3's bounds
constexpr float TANH_EPSILON = 1e-6f;                // SB3's, in log(1 - tanh^2 + epsilon)

// Computes actions a = tanh(mean + std * noise) and the logarithm of their density for a whole
// batch, and copies the actions to the critics' input.
//
// The actor outputs the means, then the logarithms of the standard deviations. A clipped logarithm
// has no gradient; its standard deviation is stored as 0 to mark that.
inline void squashed_gaussian(const Sac& s, const Batch& actor, const GaussianSample& g,
                              float* critic_input) {
  for (int row = 0; row < s.batch; row++)
    for (int i = 0; i < s.n_actions; i++) {
      g.mean[row * s.n_actions + i] = actor.output(s.actor, row, i);
      g.log_std[row * s.n_actions + i] = actor.output(s.actor, row, s.n_actions + i);
    }
  for (int at = 0; at < s.batch * s.n_actions; at += LANES) {
    const Vec raw = load(g.log_std + at), e = load(g.noise + at);
    const Vec bounded = at_most(at_least(raw, all(LOG_STD_MIN)), all(LOG_STD_MAX));
    const Vec std = exp(bounded);
    const TanhAndSlope a = tanh_and_slope(load(g.mean + at) + std * e);
    store(g.action + at, a.value);
    store(g.slope + at, a.slope);
    store(g.density + at,
          all(-0.5f) * e * e - bounded - all(HALF_LOG_2_PI) - log(a.slope + all(TANH_EPSILON)));
    store(g.std + at, raw == bounded ? std : Vec{});
  }
  for (int row = 0; row < s.batch; row++) {
    double total = 0;
    for (int i = 0; i < s.n_actions; i++) {
      const int at = row * s.n_actions + i;
      total += g.density[at];
      critic_input[element(s.batch, row, s.n_observations + i)] = g.action[at];
    }
    g.log_prob[row] = static_cast<float>(total);
  }
}

// The critic with the smallest value of the policy's action.
INLINE int smallest_critic(const Sac& s, int row) {
  int least = 0;
  for (int c = 1; c < s.n_critics; c++)
    if (s.q_policy[c][row] < s.q_policy[least][row]) least = c;
  return least;
}

// Gradient of mean(alpha * log_prob - min Q) with respect to the actor's outputs, rows [begin,
// end).
inline void squashed_gaussian_gradient(const Sac& s, float alpha, int begin, int end) {
  const float share = alpha / static_cast<float>(s.batch);
  for (int row = begin; row < end; row++) {
    const float* of_actions = s.critic_gradients[smallest_critic(s, row)].input;  // of -min Q
    for (int i = 0; i < s.n_actions; i++) {
      const int at = row * s.n_actions + i;
      const float of_action = of_actions[element(s.batch, s.place[row], s.n_observations + i)];
      const float a = s.now.action[at], slope = s.now.slope[at], std = s.now.std[at];
      const float of_mean = share * 2 * a * slope / (slope + TANH_EPSILON) + of_action * slope;
      s.actor_gradients.output(s.actor, row, i) = of_mean;
      s.actor_gradients.output(s.actor, row, s.n_actions + i) =
          std > 0 ? of_mean * s.now.noise[at] * std - share : 0;
    }
  }
}

// One Adam step on the logarithm of the entropy coefficient.
inline void entropy_step(Sac& s, const Adam& adam, SacLosses& losses) {
  double excess = 0;
  for (int row = 0; row < s.batch; row++) excess += s.now.log_prob[row] + s.target_entropy;
  excess /= s.batch;
  losses.entropy_coefficient_loss = -static_cast<double>(s.entropy[0]) * excess;
  const float gradient = -static_cast<float>(excess);
  float &w = s.entropy[0], &m = s.entropy[1], &v = s.entropy[2];
  m += (gradient - m) * adam.rest1;
  v = v * adam.beta2 + gradient * gradient * adam.rest2;
  w -= adam.step_size * (m / (__builtin_sqrtf(v) * adam.inverse_root_correction + adam.epsilon));
}

// One gradient step; every thread calls it.
inline void sac_step(Sac& s, const Replay& replay, const Steps& steps, int step, Team& team,
                     int thread, SacLosses& losses) {
  const int n_threads = team.n_threads(), batch = s.batch;
  const std::int64_t* indices = steps.indices + static_cast<std::ptrdiff_t>(step) * batch;
  const std::ptrdiff_t n_noise = static_cast<std::ptrdiff_t>(batch) * s.n_actions;
  const float* noise = steps.noise + 2 * step * n_noise;
  const float alpha = __builtin_expf(s.entropy[0]);  // before its update, as in SB3
  const bool first = thread == 0, last = thread == n_threads - 1;

  // The actor on this observation (first thread) and on the next one (last thread).
  if (first) {
    gather_now(s, replay, indices, 0, batch);
    std::memcpy(s.now.noise, noise, static_cast<std::size_t>(n_noise) * sizeof(float));
    forward(s.actor, s.actor.parameters, s.actor_now, 0, batch);
    squashed_gaussian(s, s.actor_now, s.now, s.input_policy);
  }
  if (last) {
    gather_next(s, replay, indices, 0, batch);
    std::memcpy(s.next.noise, noise + n_noise, static_cast<std::size_t>(n_noise) * sizeof(float));
    forward(s.actor, s.actor.parameters, s.actor_next, 0, batch);
    squashed_gaussian(s, s.actor_next, s.next, s.input_next);
  }
  team.meet();
  losses.entropy_coefficient = alpha;
  if (first && s.learn_entropy) entropy_step(s, steps.entropy[step], losses);

  // Target values.
  for (int i = thread; i < s.n_critics; i += n_threads) target_values(s, i);
  team.meet();

  // Critics, each on its own thread; then their values of the actor's actions.
  for (int i = thread; i < s.n_critics; i += n_threads) {
    const float tau = steps.delayed[step] ? s.tau : 0;
    learn_values(s, i, 0.5f, steps.critic[step], tau, [&](int row) INLINE_LAMBDA {
      const float next = smallest(s, s.q_target, row) - alpha * s.next.log_prob[row];
      return s.rewards[row] + (1 - s.ends[row]) * s.gamma * next;
    });
    forward(s.critics[i], s.critics[i].parameters,
            critic_batch(s, i, s.input_policy, s.q_policy[i]), 0, batch);
  }
  team.meet();

  // Only the smallest critic's gradient reaches an action, so each row is propagated back through
  // that critic alone.
  for (int i = thread; i < s.n_critics; i += n_threads) {
    Batch gradients = s.critic_gradients[i];
    gradients.rows_of = s.rows_of[i];
    int n = 0;
    for (int row = 0; row < batch; row++) {
      if (smallest_critic(s, row) != i) continue;
      s.place[row] = n;
      s.rows_of[i][n] = row;
      gradients.output(s.critics[i], n++, 0) = -1.0f / static_cast<float>(batch);
    }
    backward(s.critics[i], critic_batch(s, i, s.input_policy, s.q_policy[i]), gradients, 0, n);
  }
  team.meet();

  // The actor: the backward pass divided by rows, then the update divided by columns.
  const int begin = first_row(batch, thread, n_threads);
  const int end = first_row(batch, thread + 1, n_threads);
  squashed_gaussian_gradient(s, alpha, begin, end);
  backward(s.actor, s.actor_now, s.actor_gradients, begin, end);
  team.meet();
  update(s.actor, s.actor_now, s.actor_gradients, thread, n_threads,
         AdamStep{s.actor, steps.actor[step], 0});
  if (first) {
    losses.critic = losses.actor = 0;
    for (int i = 0; i < s.n_critics; i++) losses.critic += s.critic_loss[i];
    for (int row = 0; row < batch; row++)
      losses.actor += alpha * s.now.log_prob[row] - smallest(s, s.q_policy, row);
    losses.actor /= batch;
  }
  team.meet();
}

}  // namespace gallop::ISA
