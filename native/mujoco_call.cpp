#include "mujoco_call.hpp"

#include <cstdio>
#include <cstdlib>

namespace gallop {

namespace {

thread_local std::jmp_buf* after_error = nullptr;
thread_local char message_of_error[1000];

// MuJoCo exits if this function returns.
void on_mujoco_error(const char* message) {
  if (after_error == nullptr) {
    std::fprintf(stderr, "ERROR: %s\n\n", message);
    std::exit(EXIT_FAILURE);
  }
  std::snprintf(message_of_error, sizeof message_of_error, "%s", message);
  std::longjmp(*after_error, 1);
}

}  // namespace

void catch_mujoco_errors(OnMujocoError* on_error) {
  if (*on_error == nullptr) *on_error = &on_mujoco_error;
}

std::jmp_buf*& after_mujoco_error() { return after_error; }
const char* message_of_mujoco_error() { return message_of_error; }

}  // namespace gallop
