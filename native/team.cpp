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

}  // namespace

void Turnstile::advance() {
  number_.fetch_add(1, std::memory_order_release);
  number_.notify_all();
}

void Turnstile::wait_while(int seen) const {
  // Longer than a timestep of a simulator, so that the next gradient step finds its team awake.
  const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(300);
  do {
    for (int i = 0; i < 64; i++) {
      if (now() != seen) return;
      pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  while (now() == seen) number_.wait(seen, std::memory_order_acquire);
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
  for (int seen = 0;; seen++) {
    start_.wait_while(seen);
    if (job_ == nullptr) return;
    job_(context_, index);
    meet();
  }
}

}  // namespace gallop
