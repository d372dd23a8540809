// Twin delayed DDPG (Fujimoto et al. 2018, arXiv:1802.09477): one gradient step, in the order of
// Stable-Baselines3's TD3.train. Threads divide its phases by rows and columns; see team.hpp.
#pragma once

#include "actor_critic.hpp"

namespace gallop::ISA {

// The target actor's next actions, smoothed by clipped noise [batch, actions].
inline void smoothed_actions(const Td3& s, const float* noise, int begin, int end) {
  forward(s.actor, s.actor.target, s.actor_next, begin, end);
  for (int row = begin; row < end; row++)
    for (int i = 0; i < s.n_actions; i++) {
      const float smoothing =
          clipped(s.target_noise * noise[row * s.n_actions + i], s.target_noise_clip);
      s.input_next[element(s.batch, row, s.n_observations + i)] =
          clipped(s.actor_next.output(s.actor, row, i) + smoothing, 1);
    }
}

// The actor maximises the first critic: gradients up to the outputs of the actor's layers.
inline void policy_gradients(const Td3& s, int begin, int end) {
  forward(s.actor, s.actor.parameters, s.actor_now, begin, end);
  for (int row = begin; row < end; row++)
    for (int i = 0; i < s.n_actions; i++)
      s.input_policy[element(s.batch, row, s.n_observations + i)] =
          s.actor_now.output(s.actor, row, i);
  policy_values(s, 0, begin, end);
  const Network& critic = s.critics[0];
  const Batch& gradients = s.critic_gradients[0];
  for (int row = begin; row < end; row++)
    gradients.output(critic, row, 0) = -1.0f / static_cast<float>(s.batch);
  backward(critic, critic_batch(s, 0, s.input_policy, s.q_policy[0]), gradients, begin, end);
  for (int row = begin; row < end; row++)
    for (int i = 0; i < s.n_actions; i++) {
      const float a = s.actor_now.output(s.actor, row, i);  // a tanh
      s.actor_gradients.output(s.actor, row, i) =
          gradients.input[element(s.batch, row, s.n_observations + i)] * (1 - a * a);
    }
  backward(s.actor, s.actor_now, s.actor_gradients, begin, end);
}

// One gradient step; every thread calls it.
inline void td3_step(Td3& s, const Replay& replay, const Steps& steps, int step, Worker& worker,
                     Td3Losses& losses) {
  const int batch = s.batch;
  const std::int64_t* indices = steps.indices + static_cast<std::ptrdiff_t>(step) * batch;
  const float* noise = steps.noise + static_cast<std::ptrdiff_t>(step) * batch * s.n_actions;
  const bool delayed = steps.delayed[step];

  divide_rows(worker, batch, [&](int begin, int end) INLINE_LAMBDA {
    gather_now(s, replay, indices, begin, end);
    gather_next(s, replay, indices, begin, end);
    smoothed_actions(s, noise, begin, end);
  });
  divide_rows_of_each(worker, s.n_critics, batch, [&](int i, int begin, int end) INLINE_LAMBDA {
    target_values(s, i, begin, end);
  });
  divide_rows_of_each(worker, s.n_critics, batch, [&](int i, int begin, int end) INLINE_LAMBDA {
    value_gradients(s, i, 1, begin, end, [&](int row) INLINE_LAMBDA {
      return s.rewards[row] + (1 - s.ends[row]) * s.gamma * smallest(s, s.q_target, row);
    });
  });
  worker.divide(s.n_critics * UPDATE_SHARES + 1, [&](int item) INLINE_LAMBDA {
    if (item < s.n_critics * UPDATE_SHARES)
      update_critic(s, item / UPDATE_SHARES, item % UPDATE_SHARES, steps.critic[step],
                    delayed ? s.tau : 0, worker);
    else
      losses = {.actor = 0, .critic = critic_loss(s, 1)};
  });
  if (!delayed) return;
  divide_rows(worker, batch,
              [&](int begin, int end) INLINE_LAMBDA { policy_gradients(s, begin, end); });
  worker.divide(UPDATE_SHARES + 1, [&](int share) INLINE_LAMBDA {
    if (share < UPDATE_SHARES) {
      update(s.actor, s.actor_now, s.actor_gradients, share, UPDATE_SHARES, worker.index(),
             AdamStep{s.actor, steps.actor[step], s.tau});
      return;
    }
    for (int row = 0; row < batch; row++) losses.actor -= s.q_policy[0][row];
    losses.actor /= batch;
  });
}

}  // namespace gallop::ISA
