// Twin delayed DDPG (Fujimoto et al. 2018, arXiv:1802.09477): one gradient step, in the order of
// Stable-Baselines3's TD3.train. Threads divide the critics between them, and the actor's rows.
#pragma once

#include "actor_critic.hpp"

namespace gallop::ISA {

// One gradient step; every thread calls it.
inline void td3_step(Td3& s, const Replay& replay, const Steps& steps, int step, Team& team,
                     int thread, Td3Losses& losses) {
  const int n_threads = team.n_threads(), batch = s.batch;
  const std::int64_t* indices = steps.indices + static_cast<std::ptrdiff_t>(step) * batch;
  const float* noise = steps.noise + static_cast<std::ptrdiff_t>(step) * batch * s.n_actions;
  const int begin = first_row(batch, thread, n_threads);
  const int end = first_row(batch, thread + 1, n_threads);
  const bool delayed = steps.delayed[step];

  // The target actor's next actions, smoothed by clipped noise.
  gather_now(s, replay, indices, begin, end);
  gather_next(s, replay, indices, begin, end);
  forward(s.actor, s.actor.target, s.actor_next, begin, end);
  for (int row = begin; row < end; row++)
    for (int i = 0; i < s.n_actions; i++) {
      const float smoothing =
          clipped(s.target_noise * noise[row * s.n_actions + i], s.target_noise_clip);
      s.input_next[element(batch, row, s.n_observations + i)] =
          clipped(s.actor_next.output(s.actor, row, i) + smoothing, 1);
    }
  team.meet();

  for (int i = thread; i < s.n_critics; i += n_threads) target_values(s, i);
  team.meet();

  for (int i = thread; i < s.n_critics; i += n_threads)
    learn_values(s, i, 1, steps.critic[step], delayed ? s.tau : 0, [&](int row) INLINE_LAMBDA {
      return s.rewards[row] + (1 - s.ends[row]) * s.gamma * smallest(s, s.q_target, row);
    });
  team.meet();

  if (delayed) {  // the actor maximises the first critic
    forward(s.actor, s.actor.parameters, s.actor_now, begin, end);
    for (int row = begin; row < end; row++)
      for (int i = 0; i < s.n_actions; i++)
        s.input_policy[element(batch, row, s.n_observations + i)] =
            s.actor_now.output(s.actor, row, i);
    const Network& critic = s.critics[0];
    const Batch values = critic_batch(s, 0, s.input_policy, s.q_policy[0]);
    forward(critic, critic.parameters, values, begin, end);
    const Batch& gradients = s.critic_gradients[0];
    for (int row = begin; row < end; row++)
      gradients.output(critic, row, 0) = -1.0f / static_cast<float>(batch);
    backward(critic, values, gradients, begin, end);
    for (int row = begin; row < end; row++)
      for (int i = 0; i < s.n_actions; i++) {
        const float a = s.actor_now.output(s.actor, row, i);  // a tanh
        s.actor_gradients.output(s.actor, row, i) =
            gradients.input[element(batch, row, s.n_observations + i)] * (1 - a * a);
      }
    backward(s.actor, s.actor_now, s.actor_gradients, begin, end);
    team.meet();
    update(s.actor, s.actor_now, s.actor_gradients, thread, n_threads,
           AdamStep{s.actor, steps.actor[step], s.tau});
  }
  if (thread == 0) {
    losses.critic = losses.actor = 0;
    for (int i = 0; i < s.n_critics; i++) losses.critic += s.critic_loss[i];
    if (delayed)
      for (int row = 0; row < batch; row++) losses.actor -= s.q_policy[0][row];
    losses.actor /= batch;
  }
  team.meet();
}

}  // namespace gallop::ISA
