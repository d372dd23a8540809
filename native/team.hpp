// Threads that stay: the caller and n - 1 others, who all do the same job, each its part.
#pragma once

#include <atomic>
#include <thread>
#include <vector>

namespace gallop {

// A number that threads wait for: spin shortly, then sleep, so that a busy machine does not stall.
// Where spinning has not helped, as when there are more threads than processors, it is soon given
// up.
class Turnstile {
 public:
  int now() const { return number_.load(std::memory_order_acquire); }
  void advance();
  void wait_while(int seen);

 private:
  std::atomic<int> number_{0};
  std::atomic<int> patience_{MOST};  // microseconds of spinning
  // Longer than a timestep of a simulator, so that the next gradient step finds its team awake.
  static constexpr int LEAST = 4, MOST = 300;
};

class Team {
 public:
  explicit Team(int n_threads);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int n_threads() const;

  // job(context, thread) on every thread; returns when all have come back.
  void run(void (*job)(void*, int), void* context);

  // Waits until every thread of the team is here.
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
