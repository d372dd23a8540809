// A persistent team of threads, the caller and n - 1 others, which divide the work of a job.
//
// A job is a sequence of phases, and a phase consists of items. Each item is claimed by one thread,
// and a phase begins when all items of the previous one are done. A thread that comes late claims
// what is left. So the other threads can begin a job while the caller does something else.
#pragma once

#include <atomic>
#include <cstdint>
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

class Worker;

class Team {
 public:
  using Job = void (*)(void* context, Worker& worker);

  explicit Team(int n_threads);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int n_threads() const { return n_threads_; }

  // Lets the other threads begin a job, and returns at once. The job must only read, outside of
  // items, what no item writes, since threads go through its phases at different times.
  void begin(Job job, void* context);

  // Takes part in the job that has begun; returns when it is done and no thread is in it.
  void join();

  void run(Job job, void* context) {
    begin(job, context);
    join();
  }

 private:
  friend Worker;

  void serve(int index);
  bool enter();
  void leave();

  const int n_threads_;
  Job job_ = nullptr;
  void* context_ = nullptr;
  // The current phase, and how many of its items were claimed from either end and are done.
  alignas(64) std::atomic<std::uint64_t> progress_{0};
  // The number of other threads in the job, plus CLOSED when it is over.
  alignas(64) std::atomic<int> inside_{CLOSED};
  Turnstile begun_, phases_, left_;
  std::vector<std::thread> threads_;
  static constexpr int CLOSED = 1 << 20;
};

// A thread's way through the phases of a job. All threads divide the same phases in the same order.
class Worker {
 public:
  Worker(Team& team, int index) : team_(team), index_(index) {}

  int index() const { return index_; }  // 0 ... n_threads - 1; the caller of join() is 0

  // Calls work(item) for items 0 ... n - 1, each on one thread; returns when all of them are done.
  // `n` is 1 to MOST_ITEMS, and the same on every thread. The caller takes items from the front, the
  // others from the back, so that a thread finds in its cache what it worked on before.
  template <class Work>
  inline __attribute__((always_inline)) void divide(int n, Work&& work) {
    for (int item; (item = claim(n)) >= 0; finish(n)) work(item);
    wait();
  }

  static constexpr int MOST_ITEMS = (1 << 14) - 1;

 private:
  int claim(int n);    // an item, or -1 if none is left
  void finish(int n);  // an item is done
  void wait();         // until the phase is over

  Team& team_;
  const int index_;
  std::uint64_t phase_ = 0;
};

}  // namespace gallop
