// Data that the gradient steps of SAC, TD3 and PPO work on: plain structs, the same for every
// instruction set. Python owns the arrays that outlive a step; python/ owns the work space.
#pragma once

#include <cstdint>

#include "network.hpp"
#include "team.hpp"

namespace gallop {

constexpr int MAX_CRITICS = 16;

// Threads divide a batch into blocks of so many rows: large enough for a block of weights to be
// read from the cache many times, and a multiple of a vector, so that vectors do not cross blocks.
constexpr int ROW_BLOCK = 64;
INLINE int row_blocks(int batch) { return (batch + ROW_BLOCK - 1) / ROW_BLOCK; }

// How observations and rewards are normalised: clip((x - mean) * scale).
struct Normalization {
  const float* mean;  // [observations], or null: not normalised
  const float* scale;
  float clip;
  float reward_scale, reward_clip;
};

// A replay buffer: row i of each array is transition i. Its next observation is another row of
// `observations`, which has more rows than the other arrays.
struct Replay {
  const float* observations;
  const std::int32_t* following;  // [rows], row of the next observation
  const float* actions;           // [rows, actions], scaled to -1 ... 1
  const float* rewards;           // [rows]
  const bool* ends;               // [rows]; terminated, so that no value follows
  Normalization normalization;
};

struct ActorCriticSettings {
  int batch;    // rows
  float gamma;  // discount factor
  float tau;    // Polyak factor of the target networks
};

// Shared by SAC and TD3.
struct ActorCritic : ActorCriticSettings {
  int n_observations, n_actions, n_critics;
  Network actor, critics[MAX_CRITICS];
  // Work space.
  Batch actor_now, actor_next, actor_gradients;
  Batch critic[MAX_CRITICS], critic_gradients[MAX_CRITICS];
  float *input_data, *input_policy, *input_next;  // [batch, observations + actions] in panels
  float *q_target[MAX_CRITICS], *q[MAX_CRITICS], *q_policy[MAX_CRITICS];  // [batch]
  float* error[MAX_CRITICS];                                              // [batch], of q
  float *rewards, *ends;                                                  // [batch]
};

struct SacLosses {
  double actor, critic, entropy_coefficient, entropy_coefficient_loss;
};

// Intermediate results of a tanh-Gaussian: [batch * actions] each, padded to whole panels, except
// log_prob.
struct GaussianSample {
  float *noise, *mean, *log_std, *std, *action, *slope, *density;  // slope: 1 - action^2
  float* log_prob;                                                 // [batch]
};

struct SacSettings {
  bool learn_entropy;  // otherwise the coefficient is constant
  float target_entropy;
  int target_update_interval;  // gradient steps
};

struct Sac : ActorCritic, SacSettings {
  float* entropy;  // logarithm of the coefficient, and its two moments in Adam
  // Work space.
  float alpha;  // the entropy coefficient before its update
  GaussianSample now, next;
  int n_rows_of[MAX_CRITICS];
  int* rows_of[MAX_CRITICS];  // [batch]: rows where this critic has the smallest value
  int* place;                 // [batch]: index of a row among them
};

struct Td3Losses {
  double actor, critic;
};

struct Td3Settings {
  float target_noise;       // standard deviation of the target policy's smoothing noise
  float target_noise_clip;  // bound of that noise
  int policy_delay;         // gradient steps of the critics per gradient step of the actor
};

struct Td3 : ActorCritic, Td3Settings {};

// n gradient steps on batches of `replay`.
struct Steps {
  int n;
  const std::int64_t* indices;  // [n, batch] rows of the replay buffer
  const float* noise;           // [n, 2, batch, actions] (SAC: now, next) or [n, batch, actions]
  const Adam *actor, *critic, *entropy;  // [n] each
  const bool* delayed;  // [n]: whether targets are updated, and in TD3 the actor too
};

// What the threads of a job share.
template <class Algorithm, class Losses>
struct OffPolicyJob {
  Algorithm& algorithm;
  const Replay& replay;
  Steps steps;
  Losses* losses;  // [n]
};
using SacJob = OffPolicyJob<Sac, SacLosses>;
using Td3Job = OffPolicyJob<Td3, Td3Losses>;

// A rollout: n transitions in any order.
struct Rollout {
  const float *observations, *actions;                     // [n, observations], [n, actions]
  const float *values, *log_probs, *advantages, *returns;  // [n]
};

struct PpoLosses {
  float policy, value, entropy, clip_fraction, approximate_kl, total;
};

struct PpoSettings {
  int batch;      // rows
  bool discrete;  // n_actions discrete actions, otherwise a Gaussian of n_actions dimensions
  bool normalize_advantage;
  float entropy_weight, value_weight, max_gradient_norm;
  double target_kl;  // 0: none
};

struct PpoClipping {
  float clip_range;        // of the probability ratio
  float clip_range_value;  // of the value function; 0: not clipped
};

struct Ppo : PpoSettings, PpoClipping {
  int n_observations, n_actions;
  Network policy, value;
  Weights log_std;  // [n_actions], padded to a panel
  // Work space.
  Batch policy_batch, policy_gradients, value_batch, value_gradients;
  float *policy_gradient, *value_gradient, *log_std_gradient;  // in the parameters' layout
  float* advantages;                                           // [batch]
  double policy_norm, value_norm;                              // squared
};

// The functions that are compiled for one instruction set.
struct Kernels {
  const char* name;
  float pays_below;  // the density below which leaving out zeros pays
  void (*refresh)(const Network&);
  void (*forward)(const Network&, const float* parameters, const Batch&);
  Team::Job sac, td3;  // of an OffPolicyJob
  // One pass over `n` indices. Returns the number of minibatches that changed the networks; fewer
  // than all of them if target_kl was exceeded. Writes the losses of each.
  int (*ppo)(Ppo&, const Rollout&, const std::int64_t* indices, int n, const Adam*, Team&,
             PpoLosses*);
  // Peak of the floating-point units: the number of FLOP in `n` rounds.
  double (*peak)(long n, float* sink);
};

}  // namespace gallop
