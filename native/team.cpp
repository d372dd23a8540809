#include "team.hpp"

#include <chrono>

namespace gallop {

namespace {

void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Treats numbers below 1e-38 as 0 while a job runs: the moments of dead units decay into them, and
// each takes the processor a hundred times as long.
class FlushTiny {
 public:
#if defined(__x86_64__) || defined(__i386__)
  FlushTiny() : before_(__builtin_ia32_stmxcsr()) { __builtin_ia32_ldmxcsr(before_ | 0x8040); }
  ~FlushTiny() { __builtin_ia32_ldmxcsr(before_); }

 private:
  unsigned before_;
#endif
};

}  // namespace

void Turnstile::advance() {
  number_.fetch_add(1, std::memory_order_release);
  number_.notify_all();
}

void Turnstile::wait_while(int seen) {
  using Clock = std::chrono::steady_clock;
  const int patience = patience_.load(std::memory_order_relaxed);
  const auto start = Clock::now(), end = start + std::chrono::microseconds(patience);
  do {
    for (int i = 0; i < 32; i++) {
      if (now() != seen) return;
      pause();
    }
  } while (Clock::now() < end);
  while (now() == seen) number_.wait(seen, std::memory_order_acquire);
  // If spinning for MOST would have been enough, spin that long next time; otherwise halve it.
  const bool short_wait = Clock::now() - start < std::chrono::microseconds(MOST);
  const int half = patience / 2 > LEAST ? patience / 2 : LEAST;
  patience_.store(short_wait ? MOST : half, std::memory_order_relaxed);
}

Team::Team(int n_threads) : n_threads_(n_threads) {
  for (int i = 1; i < n_threads; i++) threads_.emplace_back([this, i] { serve(i); });
}

Team::~Team() {
  job_ = nullptr;
  start_.advance();
  for (auto& thread : threads_) thread.join();
}

int Team::n_threads() const { return n_threads_; }

void Team::run(void (*job)(void*, int), void* context) {
  job_ = job;
  context_ = context;
  start_.advance();
  const FlushTiny flush;
  job(context, 0);
  meet();
}

void Team::meet() {
  if (n_threads_ == 1) return;
  const int seen = met_.now();
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == n_threads_) {
    arrived_.store(0, std::memory_order_relaxed);
    met_.advance();
  } else {
    met_.wait_while(seen);
  }
}

void Team::serve(int index) {
  const FlushTiny flush;
  for (int seen = 0;; seen++) {
    start_.wait_while(seen);
    if (job_ == nullptr) return;
    job_(context_, index);
    meet();
  }
}

}  // namespace gallop
