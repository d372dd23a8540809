// What MuJoCo's MjData holds at every physics step, copied while the steps are taken.
//
// Python says what to copy (src/gallop/evaluation/audit/physics_log.py), and where it is in memory:
// this builds without MuJoCo.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "mujoco_call.hpp"

namespace gallop {

// Functions of MuJoCo; see its reference.
struct LogFunctions {
  using OfData = void (*)(const void* model, void* data);
  OfData step, forward, check_pos, check_vel, check_acc;
  void (*forward_skip)(const void* model, void* data, int skip_stage, int skip_sensor);
  void (*contact_force)(const void* model, const void* data, int contact, double* force);
  void (*integrate_pos)(const void* model, double* qpos, const double* qvel, double seconds);
  void (*add_to_scl)(double* sum, const double* vector, double scale, int n);
  OnMujocoError* on_error;
};

// Offsets in bytes: of fields of an MjData, and of those of an mjContact.
struct LogLayout {
  std::ptrdiff_t time, n_contacts, contacts;  // MjData
  std::ptrdiff_t contact_size, pos, frame, dist, geom;
};

struct Span {
  double* numbers;
  std::ptrdiff_t n;
};

// Of an mjModel and its mjData: arrays with a row for each body.
struct Bodies {
  const std::int32_t *of_geom, *root;
  const double *xpos, *xmat, *cvel, *subtree_com;
};

class PhysicsLog {
 public:
  // For each contact: position (3), axes (9), distance, force along each axis (3).
  static constexpr std::ptrdiff_t CONTACT_WIDTH = 16;
  // For each of its two bodies: position (3), rotation (9), spatial velocity (6), and the centre of
  // mass (3) of the tree it belongs to.
  static constexpr std::ptrdiff_t BODIES_WIDTH = 2 * 21;

  struct State {
    Span qpos, qvel, qacc, qacc_warmstart;
  };

  // is_rk4: take the steps of MuJoCo's RK4 one stage at a time, and add a row for each of its four
  // stages. Activations of actuators and states of plugins are not integrated.
  PhysicsLog(const LogFunctions& mujoco, const LogLayout& layout, const void* model, void* data,
             const State& state, std::vector<Span> row, const Bodies& bodies, double timestep,
             bool is_rk4);

  // Takes physics steps; returns MuJoCo's message if it fails, else null.
  const char* step(int n);

  std::vector<double> rows;  // [rows, numbers of a row]
  // Of contacts that push:
  std::vector<std::int32_t> contact_rows;  // [contacts]
  std::vector<std::int32_t> geoms;         // [contacts, 2]
  std::vector<double> contacts;            // [contacts, CONTACT_WIDTH]
  std::vector<double> bodies;              // [contacts, BODIES_WIDTH]

 private:
  void rk4_step();
  void add_row();
  void add_body(std::int32_t body);

  const LogFunctions mujoco_;
  const LogLayout layout_;
  const void* model_;
  char* data_;
  const State state_;
  const std::vector<Span> row_;
  const Bodies bodies_;
  const double timestep_;
  const bool is_rk4_;
  std::int32_t n_rows_ = 0;
  std::vector<double> work_;
};

}  // namespace gallop
