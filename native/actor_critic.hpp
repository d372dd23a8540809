// Shared parts of the gradient steps of SAC and TD3.
#pragma once

#include "algorithms.hpp"
#include "layer.hpp"

namespace gallop::ISA {

constexpr float HALF_LOG_2_PI = 0.918938533f;

// An update is divided into so many shares of the columns.
constexpr int UPDATE_SHARES = 4;

INLINE int end_of_block(int batch, int begin) {
  return begin + ROW_BLOCK < batch ? begin + ROW_BLOCK : batch;
}

// Divides work(i, begin, end) on the rows of `n` batches.
template <class Work>
INLINE void divide_rows_of_each(Worker& worker, int n, int batch, Work&& work) {
  const int n_blocks = row_blocks(batch);
  worker.divide(n * n_blocks, [&](int item) INLINE_LAMBDA {
    const int begin = item % n_blocks * ROW_BLOCK;
    work(item / n_blocks, begin, end_of_block(batch, begin));
  });
}

// Divides work(begin, end) on the rows of a batch.
template <class Work>
INLINE void divide_rows(Worker& worker, int batch, Work&& work) {
  divide_rows_of_each(worker, 1, batch,
                      [&](int, int begin, int end) INLINE_LAMBDA { work(begin, end); });
}

INLINE float minimum(float a, float b) { return b < a ? b : a; }
INLINE float clipped(float x, float bound) { return x > bound ? bound : x < -bound ? -bound : x; }

// Writes one observation to columns 0, 1, ... of a row, normalised.
INLINE void put_observation(const Normalization& how, const float* observation, int n, float* to,
                            int rows, int row) {
  if (how.mean == nullptr) {
    for (int first = 0; first < n; first += PANEL)
      std::memcpy(to + element(rows, row, first), observation + first,
                  sizeof(float) * static_cast<std::size_t>(columns_of(first / PANEL, n)));
    return;
  }
  for (int i = 0; i < n; i++) {
    to[element(rows, row, i)] = clipped((observation[i] - how.mean[i]) * how.scale[i], how.clip);
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
inline void target_values(const ActorCritic& s, int i, int begin, int end) {
  forward(s.critics[i], s.critics[i].target, critic_batch(s, i, s.input_next, s.q_target[i]), begin,
          end);
}

// Values of the policy's action.
inline void policy_values(const ActorCritic& s, int i, int begin, int end) {
  forward(s.critics[i], s.critics[i].parameters, critic_batch(s, i, s.input_policy, s.q_policy[i]),
          begin, end);
}

INLINE float smallest(const ActorCritic& s, float* const* q, int row) {
  float least = q[0][row];
  for (int i = 1; i < s.n_critics; i++) least = minimum(least, q[i][row]);
  return least;
}

// The gradient of one critic's mean squared error to `target(row)`, times `weight`, up to the
// outputs of its layers.
template <class Target>
inline void value_gradients(const ActorCritic& s, int i, float weight, int begin, int end,
                            Target&& target) {
  const Network& network = s.critics[i];
  const Batch batch = critic_batch(s, i, s.input_data, s.q[i]);
  forward(network, network.parameters, batch, begin, end);
  Batch gradients = s.critic_gradients[i];
  gradients.input = nullptr;
  for (int row = begin; row < end; row++) {
    s.error[i][row] = s.q[i][row] - target(row);
    gradients.output(network, row, 0) =
        s.error[i][row] * (2 * weight / static_cast<float>(s.batch));
  }
  backward(network, batch, gradients, begin, end);
}

// One share of a critic's Adam step.
inline void update_critic(const ActorCritic& s, int i, int share, const Adam& adam, float tau,
                          const Worker& worker) {
  const Batch batch = critic_batch(s, i, s.input_data, s.q[i]);
  update(s.critics[i], batch, s.critic_gradients[i], share, UPDATE_SHARES, worker.index(),
         AdamStep{s.critics[i], adam, tau});
}

// The critics' losses, added up.
inline double critic_loss(const ActorCritic& s, float weight) {
  double total = 0;
  for (int i = 0; i < s.n_critics; i++) {
    double loss = 0;
    for (int row = 0; row < s.batch; row++)
      loss += static_cast<double>(s.error[i][row]) * s.error[i][row];
    total += static_cast<float>(weight * loss / s.batch);
  }
  return total;
}

}  // namespace gallop::ISA
