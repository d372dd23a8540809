// Shared parts of the gradient steps of SAC and TD3.
#pragma once

#include "algorithms.hpp"
#include "layer.hpp"

namespace gallop::ISA {

constexpr float HALF_LOG_2_PI = 0.918938533f;

INLINE int first_row(int batch, int thread, int n_threads) { return batch * thread / n_threads; }

INLINE float minimum(float a, float b) { return b < a ? b : a; }
INLINE float clipped(float x, float bound) { return x > bound ? bound : x < -bound ? -bound : x; }

// Writes one observation to columns 0, 1, ... of a row, normalised.
INLINE void put_observation(const Normalization& how, const float* observation, int n, float* to,
                            int rows, int row) {
  for (int i = 0; i < n; i++) {
    float x = observation[i];
    if (how.mean != nullptr) x = clipped((x - how.mean[i]) * how.scale[i], how.clip);
    to[element(rows, row, i)] = x;
  }
}

// Prefetches row `at` of a matrix [rows, n]. Sampled rows of a replay buffer are far apart in
// memory: waiting for one after the other would take as long as a layer.
template <class Number>
INLINE void fetch(const Number* matrix, std::ptrdiff_t at, int n) {
  constexpr int LINE = 64 / sizeof(Number);
  for (int i = 0; i < n + LINE - 1; i += LINE) __builtin_prefetch(matrix + at * n + i);
}

// Copies observations and actions of batch rows [begin, end) to the inputs of actor and critics.
inline void gather_now(const ActorCritic& s, const Replay& replay, const std::int64_t* indices,
                       int begin, int end) {
  for (int row = begin; row < end; row++) {
    fetch(replay.observations, indices[row], s.n_observations);
    fetch(replay.actions, indices[row], s.n_actions);
  }
  for (int row = begin; row < end; row++) {
    const float* observation = replay.observations + indices[row] * s.n_observations;
    for (float* to : {s.actor_now.input, s.input_data, s.input_policy})
      put_observation(replay.normalization, observation, s.n_observations, to, s.batch, row);
    const float* action = replay.actions + indices[row] * s.n_actions;
    for (int i = 0; i < s.n_actions; i++)
      s.input_data[element(s.batch, row, s.n_observations + i)] = action[i];
  }
}

// Copies next observations, rewards and ends of batch rows [begin, end).
inline void gather_next(const ActorCritic& s, const Replay& replay, const std::int64_t* indices,
                        int begin, int end) {
  const Normalization& how = replay.normalization;
  for (int row = begin; row < end; row++) {
    fetch(replay.observations, replay.following[indices[row]], s.n_observations);
    fetch(replay.rewards, indices[row], 1);
    fetch(replay.ends, indices[row], 1);
  }
  for (int row = begin; row < end; row++) {
    const std::ptrdiff_t following = replay.following[indices[row]];
    const float* observation = replay.observations + following * s.n_observations;
    for (float* to : {s.actor_next.input, s.input_next})
      put_observation(how, observation, s.n_observations, to, s.batch, row);
    const float reward = replay.rewards[indices[row]];
    s.rewards[row] =
        how.reward_scale == 0 ? reward : clipped(reward * how.reward_scale, how.reward_clip);
    s.ends[row] = replay.ends[indices[row]];
  }
}

// A critic's batch with one of the three inputs; its values are written to `q`.
inline Batch critic_batch(const ActorCritic& s, int i, float* input, float* q) {
  Batch batch = s.critic[i];
  batch.input = input;
  batch.layer[s.critics[i].n_layers - 1] = q;
  return batch;
}

// Values of the next observation and action, from a critic's target network.
inline void target_values(const ActorCritic& s, int i) {
  forward(s.critics[i], s.critics[i].target, critic_batch(s, i, s.input_next, s.q_target[i]), 0,
          s.batch);
}

INLINE float smallest(const ActorCritic& s, float* const* q, int row) {
  float least = q[0][row];
  for (int i = 1; i < s.n_critics; i++) least = minimum(least, q[i][row]);
  return least;
}

// One critic's Adam step on the mean squared error to `target(row)`, times `weight`.
template <class Target>
inline void learn_values(ActorCritic& s, int i, float weight, const Adam& adam, float tau,
                         Target&& target) {
  const Network& network = s.critics[i];
  const Batch batch = critic_batch(s, i, s.input_data, s.q[i]);
  forward(network, network.parameters, batch, 0, s.batch);
  Batch gradients = s.critic_gradients[i];
  gradients.input = nullptr;
  double loss = 0;
  for (int row = 0; row < s.batch; row++) {
    const float error = s.q[i][row] - target(row);
    gradients.output(network, row, 0) = error * (2 * weight / static_cast<float>(s.batch));
    loss += static_cast<double>(error) * error;
  }
  s.critic_loss[i] = static_cast<float>(weight * loss / s.batch);
  backward(network, batch, gradients, 0, s.batch);
  update(network, batch, gradients, 0, 1, AdamStep{network, adam, tau});
}

}  // namespace gallop::ISA
