// Compiled without contraction: NumPy rounds each product before it adds.
#include "physics.hpp"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <utility>

namespace gallop {

namespace {

// --- sums and bounds as NumPy computes them ------------------------------------------------------

// np.clip: NaN stays NaN.
double clip(double x, const Bounds& bounds) {
  if (x < bounds.low) x = bounds.low;
  if (x > bounds.high) x = bounds.high;
  return x;
}

// np.sum of squares: value(i) for i from first to first + n, added pairwise in eight sums.
template <typename T, typename Value>
T sum_of_squares(const Value& value, std::ptrdiff_t first, std::ptrdiff_t n) {
  const auto square = [&](std::ptrdiff_t i) {
    const T x = value(first + i);
    return x * x;
  };
  if (n < 8) {
    T sum = 0;
    for (std::ptrdiff_t i = 0; i < n; i++) sum += square(i);
    return sum;
  }
  if (n <= 128) {
    T sums[8];
    for (int k = 0; k < 8; k++) sums[k] = square(k);
    std::ptrdiff_t i = 8;
    for (; i < n - n % 8; i += 8)
      for (int k = 0; k < 8; k++) sums[k] += square(i + k);
    T sum =
        ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
    for (; i < n; i++) sum += square(i);
    return sum;
  }
  const std::ptrdiff_t half = n / 2 - n / 2 % 8;
  return sum_of_squares<T>(value, first, half) + sum_of_squares<T>(value, first + half, n - half);
}

// Whether a policy or learner can use a number: finite, and in the range of float32.
bool usable(double x) { return std::fabs(x) <= FLT_MAX; }

// --- MuJoCo and the processor's state -------------------------------------------------------------

// Simulates a timestep; returns MuJoCo's message if it fails, else null.
const char* simulate(const Mujoco& mujoco, const Simulator& simulator) {
  return mujoco_call([&] {
    for (int i = 0; i < simulator.frame_skip; i++) mujoco.step(simulator.model, simulator.data);
    mujoco.rne_post_constraint(simulator.model, simulator.data);
  });
}

// The team's jobs treat tiny numbers as 0; physics needs the caller's own settings.
#if defined(__x86_64__)
using FloatState = unsigned;
FloatState float_state() { return __builtin_ia32_stmxcsr(); }
void set_float_state(FloatState state) { __builtin_ia32_ldmxcsr(state); }
#else
using FloatState = int;
FloatState float_state() { return 0; }
void set_float_state(FloatState) {}
#endif

}  // namespace

double Position::now() const {
  if (mass == nullptr) return *x;
  double sum = 0;
  for (std::ptrdiff_t body = 0; body < n_bodies; body++) sum += mass[body] * x[3 * body];
  return sum / total_mass;
}

Physics::Physics(const Mujoco& mujoco, const PhysicsSettings& settings, int n_threads)
    : mujoco_(mujoco), settings_(settings), team_(n_threads) {
  catch_mujoco_errors(mujoco_.on_error);
}

void Physics::add(Simulator simulator) {
  simulators_.push_back(std::move(simulator));
  episodes_.emplace_back();
  errors_.emplace_back();
}

void Physics::begin(std::size_t index) {
  Episode& episode = episodes_[index];
  episode.rewards.clear();
  episode.sums = {};
  episode.is_paused = false;
}

void Physics::pause(std::size_t index) { episodes_[index].is_paused = true; }

template <typename Action>
bool Physics::step(const Action* actions, const Stepped& stepped) {
  const std::size_t n_actions = static_cast<std::size_t>(settings_.n_actions);
  std::size_t n = 0;  // environments before the first bad action
  for (; n < size(); n++) {
    const Action* own = actions + n * n_actions;
    if (episodes_[n].is_paused) continue;
    if (!std::all_of(own, own + n_actions, [](Action a) { return usable(a); })) break;
  }
  std::fill(stepped.events, stepped.events + size(), std::uint8_t{0});
  if (n < size()) stepped.events[n] = BAD_ACTION;

  struct Job {
    Physics* self;
    const Action* actions;
    const Stepped& stepped;
    int n;
    FloatState state;

    void step(int i) const {
      if (self->episodes_[static_cast<std::size_t>(i)].is_paused) return;
      stepped.events[i] = self->step_one(i, actions, stepped);
    }
  } job{this, actions, stepped, static_cast<int>(n), float_state()};

  if (team_.n_threads() == 1 || job.n <= 1 || job.n > Worker::MOST_ITEMS) {
    for (int i = 0; i < job.n; i++) job.step(i);
  } else {
    team_.run(
        [](void* context, Worker& worker) {
          const Job& own = *static_cast<Job*>(context);
          const FloatState before = float_state();
          set_float_state(own.state);
          worker.divide(own.n, [&](int i) { own.step(i); });
          set_float_state(before);
        },
        &job);
  }
  return std::any_of(stepped.events, stepped.events + size(), [](std::uint8_t e) { return e; });
}

template <typename Action>
std::uint8_t Physics::step_one(std::size_t index, const Action* actions, const Stepped& stepped) {
  const Simulator& simulator = simulators_[index];
  const RewardTerms& terms = simulator.reward;
  const std::ptrdiff_t n_actions = settings_.n_actions;
  const Action* action = actions + static_cast<std::ptrdiff_t>(index) * n_actions;

  const double before = simulator.position.now();
  for (std::ptrdiff_t i = 0; i < n_actions; i++) simulator.controls[i] = action[i];
  if (const char* message = simulate(mujoco_, simulator)) {
    errors_[index] = message;
    return FAILED;
  }
  const double velocity = (simulator.position.now() - before) / simulator.seconds;

  std::uint8_t events = 0;
  double* out =
      stepped.observations + static_cast<std::ptrdiff_t>(index) * settings_.n_observations;
  bool observation_is_usable = true;
  for (const Part& part : simulator.observation) {
    for (std::ptrdiff_t i = 0; i < part.n; i++) {
      const double x = clip(part.numbers[i], part.bounds);
      observation_is_usable &= usable(x);
      *out++ = x;
    }
  }
  if (!observation_is_usable) events |= BAD_OBSERVATION;

  bool is_healthy = true;
  for (const Condition& condition : simulator.health) {
    const auto [low, high] = condition.bounds;
    for (std::ptrdiff_t i = 0; i < condition.n; i++) {
      const double x = condition.numbers[i];
      is_healthy &= condition.inclusive ? low <= x && x <= high : low < x && x < high;
    }
  }
  if (!is_healthy && simulator.terminates) events |= TERMINATED;

  const double forward = terms.forward_weight * velocity;
  const double health = terms.has_health ? (is_healthy ? 1.0 : 0.0) * terms.healthy_reward : 0.0;
  double reward = forward;
  if (terms.has_health) reward += health;
  double control_cost;
  if (terms.control_in_double) {
    const auto control = [&](std::ptrdiff_t i) { return simulator.controls[i]; };
    control_cost = terms.control_weight * sum_of_squares<double>(control, 0, n_actions);
  } else {  // in the precision of the actions
    const auto control = [&](std::ptrdiff_t i) { return action[i]; };
    const Action sum = sum_of_squares<Action>(control, 0, n_actions);
    control_cost = static_cast<Action>(static_cast<Action>(terms.control_weight) * sum);
  }
  double cost = control_cost, contact_cost = 0;
  if (terms.has_contact) {
    const Part& forces = terms.contact_forces;
    const auto force = [&](std::ptrdiff_t i) { return clip(forces.numbers[i], forces.bounds); };
    const double sum = sum_of_squares<double>(force, 0, forces.n);
    contact_cost = clip(terms.contact_weight * sum, terms.contact_cost);
    cost += contact_cost;
  }
  reward -= cost;
  if (!(std::fabs(reward) <= settings_.largest_reward)) events |= BAD_REWARD;
  stepped.rewards[index] = static_cast<float>(reward);
  Episode& episode = episodes_[index];
  episode.rewards.push_back(reward);
  if (observation_is_usable) {
    EpisodeSums& sums = episode.sums;
    sums.reward += reward;
    sums.forward += forward;
    sums.control += -control_cost;
    sums.contact += -contact_cost;
    sums.health += health;
  }

  for (const int* counter : simulator.unstable)
    if (*counter != 0) events |= UNSTABLE;
  const auto length = static_cast<std::int64_t>(episode.rewards.size());
  if (simulator.time_limit != 0 && length >= simulator.time_limit) events |= TIME_LIMIT;
  return events;
}

template bool Physics::step(const float*, const Stepped&);
template bool Physics::step(const double*, const Stepped&);

}  // namespace gallop
