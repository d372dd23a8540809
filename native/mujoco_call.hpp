// Calls into the MuJoCo library that Python has loaded, whose errors come back as messages.
//
// Its functions come as addresses, so that this builds without MuJoCo.
#pragma once

#include <csetjmp>

namespace gallop {

using OnMujocoError = void (*)(const char* message);

// Makes `mujoco_call` work. Another handler that is installed already stays.
//   on_error: mju_user_error, which MuJoCo calls for an error, after which it would exit
void catch_mujoco_errors(OnMujocoError* on_error);

// Where an error jumps to, and what it says; of this thread.
std::jmp_buf*& after_mujoco_error();
const char* message_of_mujoco_error();

// Runs `function`; returns MuJoCo's message if it fails, else null. The jump out of a failed call
// runs no destructors: nothing that needs one may be alive in `function` while MuJoCo runs.
template <typename Function>
const char* mujoco_call(const Function& function) {
  std::jmp_buf here;
  after_mujoco_error() = &here;
  if (setjmp(here) != 0) {
    after_mujoco_error() = nullptr;
    return message_of_mujoco_error();
  }
  function();
  after_mujoco_error() = nullptr;
  return nullptr;
}

}  // namespace gallop
