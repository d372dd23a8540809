// Compiled once per instruction set, with its own LANES and namespace; exports one table. Uses
// nothing from the standard library that the linker could merge between instruction sets.

#include "ppo.hpp"
#include "sac.hpp"
#include "td3.hpp"

namespace gallop::ISA {

namespace {

void forward_all(const Network& network, const float* parameters, const Batch& batch) {
  forward(network, parameters, batch, 0, batch.rows);
}

// Runs `step` on every thread for every gradient step. Only the first thread writes the losses.
template <auto step, class Algorithm, class Losses>
void run_off_policy(Algorithm& algorithm, const Replay& replay, const Steps& steps, Team& team,
                    Losses* losses) {
  struct Job {
    Algorithm& algorithm;
    const Replay& replay;
    const Steps& steps;
    Team& team;
    Losses* losses;
  } job{algorithm, replay, steps, team, losses};
  team.run(
      [](void* context, int thread) {
        Job& j = *static_cast<Job*>(context);
        Losses elsewhere{};
        for (int i = 0; i < j.steps.n; i++)
          step(j.algorithm, j.replay, j.steps, i, j.team, thread,
               thread == 0 ? j.losses[i] : elsewhere);
      },
      &job);
}

struct PpoJob {
  Ppo& ppo;
  const Rollout& rollout;
  const std::int64_t* indices;
  int n;
  const Adam* adam;
  Team& team;
  PpoLosses* losses;
  int n_done;
};

int run_ppo(Ppo& ppo, const Rollout& rollout, const std::int64_t* indices, int n, const Adam* adam,
            Team& team, PpoLosses* losses) {
  PpoJob job{ppo, rollout, indices, n, adam, team, losses, 0};
  team.run(
      [](void* context, int thread) {
        PpoJob& j = *static_cast<PpoJob*>(context);
        int done = 0;
        for (int at = 0; at < j.n; at += j.ppo.batch, done++) {
          const int rows = j.n - at < j.ppo.batch ? j.n - at : j.ppo.batch;
          if (!ppo_step(j.ppo, j.rollout, j.indices + at, rows, j.adam[done], j.team, thread,
                        j.losses[done]))
            break;
        }
        if (thread == 0) j.n_done = done;
      },
      &job);
  return job.n_done;
}

// Multiply-adds on enough accumulators to hide their latency, and nothing else.
double peak(long n, float* sink) {
  constexpr int SUMS = BLOCK_ROWS * BLOCK_VECTORS;
  Vec sums[SUMS];
  for (int i = 0; i < SUMS; i++) sums[i] = all(static_cast<float>(i));
  Vec a = all(*sink), b = all(1 - *sink);
  for (long k = 0; k < n; k++) {
    asm volatile("" : "+x"(a), "+x"(b));  // keeps the compiler from hoisting
#pragma GCC unroll 32
    for (int i = 0; i < SUMS; i++) sums[i] = sums[i] * a + b;
  }
  Vec total{};
  for (int i = 0; i < SUMS; i++) total += sums[i];
  store(sink, total);
  return 2.0 * SUMS * LANES * static_cast<double>(n);
}

}  // namespace

#define NAME_OF(isa) NAME_OF_(isa)
#define NAME_OF_(isa) #isa
extern const Kernels kernels;
const Kernels kernels{NAME_OF(ISA),
                      PAYS_BELOW,
                      refresh,
                      forward_all,
                      run_off_policy<sac_step>,
                      run_off_policy<td3_step>,
                      run_ppo,
                      peak};

}  // namespace gallop::ISA
