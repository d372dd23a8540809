// Timesteps of Gymnasium's MuJoCo tasks, for several environments at once: physics, observation,
// reward, and the end of an episode. The bits are those of Gymnasium's own code, which adds and
// rounds in this order.
//
// MuJoCo is the library that Python has loaded. Its functions and the numbers of its MjData come as
// addresses, so that this builds without MuJoCo. Nothing here knows a task: Python describes each
// one (src/gallop/environments/mujoco_terms.py).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "mujoco_call.hpp"
#include "team.hpp"

namespace gallop {

struct Mujoco {
  using Function = void (*)(const void* model, void* data);
  Function step;                 // mj_step
  Function rne_post_constraint;  // mj_rnePostConstraint: contact forces, which mj_step leaves out
  OnMujocoError* on_error;       // mju_user_error
};

struct Bounds {
  double low, high;
};

// Consecutive numbers of an MjData, clipped to bounds, which may be infinite.
struct Part {
  const double* numbers;
  std::ptrdiff_t n;
  Bounds bounds;
};

// Healthy: every number lies strictly between the bounds, or on them if `inclusive`.
struct Condition : Part {
  bool inclusive;
};

// How fast the body moves forward: x of a point, or of the centre of mass.
struct Position {
  const double* x;     // x, or x of the first body's centre, followed by y and z and the next body
  const double* mass;  // [n_bodies], or null for a point
  std::ptrdiff_t n_bodies;
  double total_mass;

  double now() const;
};

struct RewardTerms {
  double forward_weight;  // of the velocity, m/s
  bool has_health;
  double healthy_reward;
  double control_weight;   // of the sum of squared actions
  bool control_in_double;  // the sum is taken over MjData's controls instead of the actions
  bool has_contact;
  double contact_weight;  // of the sum of squared contact forces
  Part contact_forces;
  Bounds contact_cost;
};

// One environment. Addresses are valid as long as Python keeps its MjModel and MjData.
struct Simulator {
  const void* model;
  void* data;
  int frame_skip;           // physics steps in a timestep
  double seconds;           // of a timestep
  double* controls;         // [n_actions]
  const int* unstable[3];   // counters of MuJoCo's warnings of NaN or infinity
  std::int64_t time_limit;  // timesteps of an episode; 0: none
  bool terminates;          // when not healthy
  Position position;
  std::vector<Part> observation;
  std::vector<Condition> health;
  RewardTerms reward;
};

// What Python has to deal with after a timestep of an environment.
enum Event : std::uint8_t {
  TERMINATED = 1,
  TIME_LIMIT = 2,
  UNSTABLE = 4,          // MuJoCo has found NaN or infinity, and has reset the simulator
  BAD_ACTION = 8,        // NaN or infinity; neither this environment nor the next ones were stepped
  BAD_OBSERVATION = 16,  // not finite in float32
  BAD_REWARD = 32,       // beyond the limit
  FAILED = 64,           // MuJoCo has raised an error
};

// Arrays that a timestep fills, one row per environment.
struct Stepped {
  double* observations;  // [n, n_observations]
  float* rewards;        // [n]
  std::uint8_t* events;  // [n], sums of Event
};

// Sums over the timesteps of an episode, each added in its order. A timestep whose observation
// cannot be used does not count.
struct EpisodeSums {
  double reward = 0;
  double forward = 0, control = 0, contact = 0, health = 0;  // the terms of the reward
};

struct PhysicsSettings {
  std::ptrdiff_t n_observations, n_actions;
  double largest_reward;  // limit of its absolute value
};

class Physics {
 public:
  Physics(const Mujoco& mujoco, const PhysicsSettings& settings, int n_threads);

  void add(Simulator simulator);

  // Begins an episode of this environment, which Python has reset.
  void begin(std::size_t index);

  // Leaves this environment out of `step`, until its next episode begins.
  void pause(std::size_t index);

  // Steps every environment with actions [n, n_actions] of float or double; returns whether there
  // is an event.
  template <typename Action>
  bool step(const Action* actions, const Stepped& stepped);

  std::size_t size() const { return simulators_.size(); }
  const PhysicsSettings& settings() const { return settings_; }

  // Of this environment since its episode began.
  const std::vector<double>& rewards(std::size_t index) const { return episodes_[index].rewards; }
  const EpisodeSums& sums(std::size_t index) const { return episodes_[index].sums; }

  // MuJoCo's latest error in this environment.
  const std::string& error(std::size_t index) const { return errors_[index]; }

 private:
  struct Episode {
    std::vector<double> rewards;
    EpisodeSums sums;
    bool is_paused = false;
  };

  template <typename Action>
  std::uint8_t step_one(std::size_t index, const Action* actions, const Stepped& stepped);

  const Mujoco mujoco_;
  const PhysicsSettings settings_;
  Team team_;
  std::vector<Simulator> simulators_;
  std::vector<Episode> episodes_;
  std::vector<std::string> errors_;
};

}  // namespace gallop
