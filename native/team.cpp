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
  inside_.store(0, std::memory_order_release);
  begun_.advance();
  for (auto& thread : threads_) thread.join();
}

void Team::begin(Job job, void* context) {
  job_ = job;
  context_ = context;
  progress_.store(0, std::memory_order_relaxed);
  inside_.store(0, std::memory_order_release);
  begun_.advance();
}

void Team::join() {
  {
    const FlushTiny flush;
    Worker worker(*this, 0);
    job_(context_, worker);
  }
  inside_.fetch_add(CLOSED, std::memory_order_acq_rel);
  for (int seen; seen = left_.now(), inside_.load(std::memory_order_acquire) != CLOSED;)
    left_.wait_while(seen);
}

// A thread that wakes up when the job is over must not enter it: its context may be gone.
bool Team::enter() {
  int inside = inside_.load(std::memory_order_relaxed);
  while (inside < CLOSED)
    if (inside_.compare_exchange_weak(inside, inside + 1, std::memory_order_acquire)) return true;
  return false;
}

void Team::leave() {
  if (inside_.fetch_sub(1, std::memory_order_release) > CLOSED) left_.advance();
}

void Team::serve(int index) {
  const FlushTiny flush;
  for (int seen = 0;;) {
    begun_.wait_while(seen);
    seen = begun_.now();
    if (!enter()) continue;
    if (job_ == nullptr) return;
    Worker worker(*this, index);
    job_(context_, worker);
    leave();
  }
}

namespace {

// Team::progress_ in one number, so that it changes in one piece.
struct Progress {
  std::uint64_t phase;
  int front, back, done;

  static constexpr int BITS = 14;
  static constexpr std::uint64_t MASK = (1 << BITS) - 1;

  static Progress of(std::uint64_t packed) {
    return {packed >> 3 * BITS, static_cast<int>(packed >> 2 * BITS & MASK),
            static_cast<int>(packed >> BITS & MASK), static_cast<int>(packed & MASK)};
  }
  std::uint64_t packed() const {
    return phase << 3 * BITS | static_cast<std::uint64_t>(front) << 2 * BITS |
           static_cast<std::uint64_t>(back) << BITS | static_cast<std::uint64_t>(done);
  }
};
static_assert(Worker::MOST_ITEMS <= static_cast<int>(Progress::MASK));

}  // namespace

int Worker::claim(int n) {
  std::uint64_t packed = team_.progress_.load(std::memory_order_acquire);
  for (;;) {
    Progress now = Progress::of(packed);
    if (now.phase != phase_ || now.front + now.back >= n) return -1;
    const int item = index_ == 0 ? now.front++ : n - 1 - now.back++;
    if (team_.progress_.compare_exchange_weak(packed, now.packed(), std::memory_order_acq_rel))
      return item;
  }
}

void Worker::finish(int n) {
  std::uint64_t packed = team_.progress_.load(std::memory_order_relaxed);
  for (;;) {
    Progress now = Progress::of(packed);
    const bool last = ++now.done == n;
    if (last) now = {now.phase + 1, 0, 0, 0};
    if (!team_.progress_.compare_exchange_weak(packed, now.packed(), std::memory_order_acq_rel))
      continue;
    if (last && team_.n_threads_ > 1) team_.phases_.advance();
    return;
  }
}

void Worker::wait() {
  const auto is_over = [&] {
    return Progress::of(team_.progress_.load(std::memory_order_acquire)).phase > phase_;
  };
  for (int seen; seen = team_.phases_.now(), !is_over();) team_.phases_.wait_while(seen);
  phase_++;
}

}  // namespace gallop
