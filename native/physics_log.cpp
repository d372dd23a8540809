#include "physics_log.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace gallop {

namespace {

constexpr int STAGES = 4;

void copy(const Span& from, double* to) { std::copy_n(from.numbers, from.n, to); }
void copy(const double* from, const Span& to) { std::copy_n(from, to.n, to.numbers); }

void append(const double* from, std::ptrdiff_t n, std::vector<double>& numbers) {
  numbers.insert(numbers.end(), from, from + n);
}

}  // namespace

PhysicsLog::PhysicsLog(const LogFunctions& mujoco, const LogLayout& layout, const void* model,
                       void* data, const State& state, std::vector<Span> row, const Bodies& bodies,
                       double timestep, bool is_rk4)
    : mujoco_(mujoco),
      layout_(layout),
      model_(model),
      data_(static_cast<char*>(data)),
      state_(state),
      row_(std::move(row)),
      bodies_(bodies),
      timestep_(timestep),
      is_rk4_(is_rk4),
      work_(static_cast<std::size_t>(state.qpos.n + (2 * STAGES + 2) * state.qvel.n)) {
  catch_mujoco_errors(mujoco_.on_error);
}

const char* PhysicsLog::step(int n) {
  return mujoco_call([&] {
    for (int i = 0; i < n; i++) {
      if (is_rk4_) {
        rk4_step();
      } else {
        mujoco_.step(model_, data_);
        add_row();
      }
    }
  });
}

// mj_step with MuJoCo's mj_RungeKutta (engine_forward.c), in the same order of operations, which
// gives the same bits: classic RK4.
void PhysicsLog::rk4_step() {
  static constexpr double POSITIONS[STAGES] = {0, 0.5, 0.5, 1};  // of the stages in the step
  static constexpr double WEIGHTS[STAGES] = {1.0 / 6, 1.0 / 3, 1.0 / 3, 1.0 / 6};
  const std::ptrdiff_t nv = state_.qvel.n;
  const int n = static_cast<int>(nv);
  double* qpos = work_.data();                // before the step
  double* velocities = qpos + state_.qpos.n;  // of each stage
  double* accelerations = velocities + STAGES * nv;
  double* velocity = accelerations + STAGES * nv;  // that leads from the start to a later state
  double* acceleration = velocity + nv;
  double& time = *reinterpret_cast<double*>(data_ + layout_.time);

  mujoco_.check_pos(model_, data_);
  mujoco_.check_vel(model_, data_);
  mujoco_.forward(model_, data_);
  mujoco_.check_acc(model_, data_);
  add_row();
  const double start = time;
  copy(state_.qpos, qpos);
  copy(state_.qvel, velocities);
  copy(state_.qacc, accelerations);
  for (int stage = 1; stage <= STAGES; stage++) {
    std::fill_n(velocity, 2 * nv, 0.0);
    for (int earlier = 0; earlier < stage; earlier++) {
      const double scale = stage == STAGES        ? WEIGHTS[earlier]
                           : earlier == stage - 1 ? POSITIONS[stage]
                                                  : 0.0;
      mujoco_.add_to_scl(velocity, velocities + earlier * nv, scale, n);
      mujoco_.add_to_scl(acceleration, accelerations + earlier * nv, scale, n);
    }
    copy(qpos, state_.qpos);
    copy(velocities, state_.qvel);
    mujoco_.integrate_pos(model_, state_.qpos.numbers, velocity, timestep_);
    mujoco_.add_to_scl(state_.qvel.numbers, acceleration, timestep_, n);
    if (stage == STAGES) break;
    copy(state_.qvel, velocities + stage * nv);
    time = start + POSITIONS[stage] * timestep_;
    mujoco_.forward_skip(model_, data_, 0, 1);
    copy(state_.qacc, accelerations + stage * nv);
    if (stage < STAGES - 1) add_row();
  }
  time = start + timestep_;
  copy(state_.qacc.numbers, state_.qacc_warmstart);
  add_row();
}

void PhysicsLog::add_row() {
  for (const Span& each : row_) append(each.numbers, each.n, rows);
  const std::int32_t row = n_rows_++;
  const int n = *reinterpret_cast<const int*>(data_ + layout_.n_contacts);
  const char* contact = *reinterpret_cast<const char* const*>(data_ + layout_.contacts);
  for (int i = 0; i < n; i++, contact += layout_.contact_size) {
    const auto* geom = reinterpret_cast<const std::int32_t*>(contact + layout_.geom);
    if (geom[0] < 0 || geom[1] < 0) continue;  // of a flexible body
    double force[6];
    mujoco_.contact_force(model_, data_, i, force);
    if (!(force[0] > 0)) continue;  // nothing is pushed
    contact_rows.push_back(row);
    const auto* pos = reinterpret_cast<const double*>(contact + layout_.pos);
    const auto* frame = reinterpret_cast<const double*>(contact + layout_.frame);
    append(pos, 3, contacts);
    append(frame, 9, contacts);
    contacts.push_back(*reinterpret_cast<const double*>(contact + layout_.dist));
    append(force, 3, contacts);
    geoms.insert(geoms.end(), geom, geom + 2);
    for (const std::int32_t each : {geom[0], geom[1]}) add_body(bodies_.of_geom[each]);
  }
}

void PhysicsLog::add_body(std::int32_t body) {
  append(bodies_.xpos + 3 * body, 3, bodies);
  append(bodies_.xmat + 9 * body, 9, bodies);
  append(bodies_.cvel + 6 * body, 6, bodies);
  append(bodies_.subtree_com + 3 * bodies_.root[body], 3, bodies);
}

}  // namespace gallop
