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

// One thread's part in n gradient steps.
template <class Job, auto step>
void off_policy_job(void* context, Worker& worker) {
  Job& job = *static_cast<Job*>(context);
  for (int i = 0; i < job.steps.n; i++)
    step(job.algorithm, job.replay, job.steps, i, worker, job.losses[i]);
}

struct PpoJob {
  Ppo& ppo;
  const Rollout& rollout;
  const std::int64_t* indices;
  int n;
  const Adam* adam;
  PpoLosses* losses;
  int n_done;
};

void ppo_job(void* context, Worker& worker) {
  PpoJob& job = *static_cast<PpoJob*>(context);
  int done = 0;
  for (int at = 0; at < job.n; at += job.ppo.batch, done++) {
    const int rows = job.n - at < job.ppo.batch ? job.n - at : job.ppo.batch;
    if (!ppo_step(job.ppo, job.rollout, job.indices + at, rows, job.adam[done], worker,
                  job.losses[done]))
      break;
  }
  if (worker.index() == 0) job.n_done = done;
}

int run_ppo(Ppo& ppo, const Rollout& rollout, const std::int64_t* indices, int n, const Adam* adam,
            Team& team, PpoLosses* losses) {
  PpoJob job{ppo, rollout, indices, n, adam, losses, 0};
  team.run(ppo_job, &job);
  for (int i = 0; i * ppo.batch < n && i <= job.n_done; i++)
    losses[i].total = losses[i].policy + ppo.entropy_weight * losses[i].entropy +
                      ppo.value_weight * losses[i].value;
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
                      off_policy_job<SacJob, sac_step>,
                      off_policy_job<Td3Job, td3_step>,
                      run_ppo,
                      peak};

}  // namespace gallop::ISA
