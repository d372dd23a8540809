// Soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905): one gradient step, in the order of
// Stable-Baselines3's SAC.train. Threads divide its phases by rows and columns; see team.hpp.
#pragma once

#include "actor_critic.hpp"

namespace gallop::ISA {

constexpr float LOG_STD_MIN = -20, LOG_STD_MAX = 2;  // SB3's bounds
constexpr float TANH_EPSILON = 1e-6f;                // SB3's, in log(1 - tanh^2 + epsilon)

// Computes actions a = tanh(mean + std * noise) and the logarithm of their density for rows
// [begin, end), and copies the actions to the critics' input.
//
// The actor outputs the means, then the logarithms of the standard deviations. A clipped logarithm
// has no gradient; its standard deviation is stored as 0 to mark that.
inline void squashed_gaussian(const Sac& s, const Batch& actor, const GaussianSample& g,
                              float* critic_input, int begin, int end) {
  for (int row = begin; row < end; row++)
    for (int i = 0; i < s.n_actions; i++) {
      g.mean[row * s.n_actions + i] = actor.output(s.actor, row, i);
      g.log_std[row * s.n_actions + i] = actor.output(s.actor, row, s.n_actions + i);
    }
  for (int at = begin * s.n_actions; at < end * s.n_actions; at += LANES) {
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
  for (int row = begin; row < end; row++) {
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
inline void squashed_gaussian_gradient(const Sac& s, int begin, int end) {
  const float share = s.alpha / static_cast<float>(s.batch);
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

// The rows where critic i has the smallest value of the policy's action.
inline void choose_rows(Sac& s, int i) {
  int n = 0;
  for (int row = 0; row < s.batch; row++) {
    if (smallest_critic(s, row) != i) continue;
    s.place[row] = n;
    s.rows_of[i][n++] = row;
  }
  s.n_rows_of[i] = n;
}

// Only the smallest critic's gradient reaches an action, so each row is propagated back through
// that critic alone: rows [begin, end) of its own rows.
inline void action_gradients(const Sac& s, int i, int begin, int end) {
  Batch gradients = s.critic_gradients[i];
  gradients.rows_of = s.rows_of[i];
  if (end > s.n_rows_of[i]) end = s.n_rows_of[i];
  for (int row = begin; row < end; row++)
    gradients.output(s.critics[i], row, 0) = -1.0f / static_cast<float>(s.batch);
  backward(s.critics[i], critic_batch(s, i, s.input_policy, s.q_policy[i]), gradients, begin, end);
}

// One gradient step; every thread calls it.
inline void sac_step(Sac& s, const Replay& replay, const Steps& steps, int step, Worker& worker,
                     SacLosses& losses) {
  const int batch = s.batch, n_blocks = row_blocks(batch);
  const std::int64_t* indices = steps.indices + static_cast<std::ptrdiff_t>(step) * batch;
  const std::ptrdiff_t n_noise = static_cast<std::ptrdiff_t>(batch) * s.n_actions;
  const float* noise = steps.noise + 2 * step * n_noise;

  // The actor on this observation and on the next one.
  divide_rows_of_each(worker, 2, batch, [&](int which, int begin, int end) INLINE_LAMBDA {
    const bool is_now = which == 0;
    const GaussianSample& sample = is_now ? s.now : s.next;
    const Batch& actor = is_now ? s.actor_now : s.actor_next;
    (is_now ? gather_now : gather_next)(s, replay, indices, begin, end);
    const std::ptrdiff_t first = static_cast<std::ptrdiff_t>(begin) * s.n_actions;
    std::memcpy(sample.noise + first, noise + which * n_noise + first,
                sizeof(float) * static_cast<std::size_t>((end - begin) * s.n_actions));
    forward(s.actor, s.actor.parameters, actor, begin, end);
    squashed_gaussian(s, actor, sample, is_now ? s.input_policy : s.input_next, begin, end);
    if (is_now && begin == 0) s.alpha = __builtin_expf(s.entropy[0]);  // before its update
  });

  // Target values; meanwhile the entropy coefficient.
  worker.divide(s.n_critics * n_blocks + 1, [&](int item) INLINE_LAMBDA {
    if (item == s.n_critics * n_blocks) {
      losses.entropy_coefficient = s.alpha;
      if (s.learn_entropy) entropy_step(s, steps.entropy[step], losses);
      return;
    }
    const int begin = item % n_blocks * ROW_BLOCK;
    target_values(s, item / n_blocks, begin, end_of_block(batch, begin));
  });

  // The critics, and their values of the actor's actions.
  divide_rows_of_each(worker, s.n_critics, batch, [&](int i, int begin, int end) INLINE_LAMBDA {
    value_gradients(s, i, 0.5f, begin, end, [&](int row) INLINE_LAMBDA {
      const float next = smallest(s, s.q_target, row) - s.alpha * s.next.log_prob[row];
      return s.rewards[row] + (1 - s.ends[row]) * s.gamma * next;
    });
  });
  worker.divide(s.n_critics * UPDATE_SHARES, [&](int item) INLINE_LAMBDA {
    update_critic(s, item / UPDATE_SHARES, item % UPDATE_SHARES, steps.critic[step],
                  steps.delayed[step] ? s.tau : 0, worker);
  });
  divide_rows_of_each(worker, s.n_critics, batch, [&](int i, int begin, int end) INLINE_LAMBDA {
    policy_values(s, i, begin, end);
  });

  // The gradient of the actions, and the actor.
  worker.divide(s.n_critics, [&](int i) INLINE_LAMBDA { choose_rows(s, i); });
  divide_rows_of_each(worker, s.n_critics, batch, [&](int i, int begin, int end) INLINE_LAMBDA {
    action_gradients(s, i, begin, end);
  });
  divide_rows(worker, batch, [&](int begin, int end) INLINE_LAMBDA {
    squashed_gaussian_gradient(s, begin, end);
    backward(s.actor, s.actor_now, s.actor_gradients, begin, end);
  });
  worker.divide(UPDATE_SHARES + 1, [&](int share) INLINE_LAMBDA {
    if (share < UPDATE_SHARES) {
      update(s.actor, s.actor_now, s.actor_gradients, share, UPDATE_SHARES, worker.index(),
             AdamStep{s.actor, steps.actor[step], 0});
      return;
    }
    losses.critic = critic_loss(s, 0.5f);
    losses.actor = 0;
    for (int row = 0; row < batch; row++)
      losses.actor += s.alpha * s.now.log_prob[row] - smallest(s, s.q_policy, row);
    losses.actor /= batch;
  });
}

}  // namespace gallop::ISA
