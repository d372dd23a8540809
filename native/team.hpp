// A persistent team of threads, the caller and n - 1 others, which run the same job together.
#pragma once

#include <atomic>
#include <thread>
#include <vector>

namespace gallop {

// A number that threads wait for. They spin briefly, then sleep, so that a busy machine does not
// stall. If spinning does not help, for example because there are more threads than processors, the
// time for spinning is soon reduced.
class Turnstile {
 public:
  int now() const { return number_.load(std::memory_order_acquire); }
  void advance();
  void wait_while(int seen);

 private:
  std::atomic<int> number_{0};
  std::atomic<int> patience_{MOST};  // microseconds of spinning
  // MOST is longer than a timestep of a simulator, so that the next gradient step finds the team
  // awake.
  static constexpr int LEAST = 4, MOST = 300;
};

class Team {
 public:
  explicit Team(int n_threads);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int n_threads() const;

  // Calls job(context, thread) on every thread; returns when all have finished.
  void run(void (*job)(void*, int), void* context);

  // A barrier: waits until every thread of the team has called it.
  void meet();

 private:
  void serve(int index);

  const int n_threads_;
  void (*job_)(void*, int) = nullptr;
  void* context_ = nullptr;
  Turnstile start_, met_;
  std::atomic<int> arrived_{0};
  std::vector<std::thread> threads_;
};

}  // namespace gallop
