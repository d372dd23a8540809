// AMX on processors without it: catches the illegal instructions that the kernels' tiles are there,
// and does what they would do. Only those that native/tiles.hpp uses, as Intel's manual describes
// them (Software Developer's Manual, volume 2, TDPBF16PS and TILE*). Linux on x86-64; for tests.

#include <signal.h>
#include <ucontext.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace {

struct Tile {
  alignas(64) std::uint8_t row[16][64];
};

struct State {
  bool configured = false;
  std::uint16_t row_bytes[8];
  std::uint8_t rows[8];
  Tile tile[8];
};
thread_local State state;

float wide(std::uint16_t half) {
  const std::uint32_t bits = static_cast<std::uint32_t>(half) << 16;
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

struct Instruction {
  const std::uint8_t* at;
  greg_t* registers;
  int reg = 0, rm = 0, vvvv = 0, opcode = 0, prefix = 0, mod = 0;
  std::uint8_t* base = nullptr;
  std::ptrdiff_t index = 0;

  greg_t value(int number) const {
    constexpr int ORDER[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                             REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                             REG_R12, REG_R13, REG_R14, REG_R15};
    return registers[ORDER[number]];
  }

  // A VEX prefix of three bytes, opcode, ModRM, SIB, displacement; false if it is something else.
  bool decode() {
    if (at[0] != 0xc4 || (at[1] & 0x1f) != 2) return false;
    const int r = !(at[1] & 0x80), x = !(at[1] & 0x40), b = !(at[1] & 0x20);
    vvvv = ~(at[2] >> 3) & 15;
    prefix = at[2] & 3;  // 0: none, 1: 66, 2: F3, 3: F2
    opcode = at[3];
    mod = at[4] >> 6;
    reg = ((at[4] >> 3) & 7) | r << 3;
    rm = at[4] & 7;
    at += 5;
    if (mod == 3) return true;
    std::ptrdiff_t address = 0;
    int base_register = rm | b << 3;
    if (rm == 4) {
      const int sib = *at++;
      base_register = (sib & 7) | b << 3;
      const int index_register = ((sib >> 3) & 7) | x << 3;
      if (index_register != 4) index = value(index_register) * (std::ptrdiff_t{1} << (sib >> 6));
    }
    if (mod == 0 && (base_register & 7) == 5) return false;  // relative to RIP, or absolute
    address = value(base_register);
    if (mod == 1) {
      address += static_cast<std::int8_t>(*at++);
    } else if (mod == 2) {
      std::int32_t displacement;
      std::memcpy(&displacement, at, 4);
      address += displacement;
      at += 4;
    }
    base = reinterpret_cast<std::uint8_t*>(address);
    return true;
  }

  bool run() const {
    constexpr int NONE = 0, F3 = 2, F2 = 3;
    if (opcode == 0x49 && prefix == NONE && mod != 3) return configure();
    if (opcode == 0x49 && prefix == NONE) return state.configured = false, true;
    if (!state.configured || reg > 7) return false;
    Tile& tile = state.tile[reg];
    if (opcode == 0x49 && prefix == F2) return std::memset(&tile, 0, sizeof tile), true;
    if (opcode == 0x4b && prefix == F2) {
      std::memset(&tile, 0, sizeof tile);
      for (int row = 0; row < state.rows[reg]; row++)
        std::memcpy(tile.row[row], base + row * index, state.row_bytes[reg]);
      return true;
    }
    if (opcode == 0x4b && prefix == F3) {
      for (int row = 0; row < state.rows[reg]; row++)
        std::memcpy(base + row * index, tile.row[row], state.row_bytes[reg]);
      return true;
    }
    if (opcode == 0x5c && prefix == F3 && mod == 3) return multiply(tile);
    return false;
  }

  bool configure() const {
    if (base[0] != 1 || base[1] != 0) return false;
    for (int i = 0; i < 8; i++) {
      std::memcpy(&state.row_bytes[i], base + 16 + 2 * i, 2);
      state.rows[i] = base[48 + i];
      if (state.row_bytes[i] > 64 || state.rows[i] > 16) return false;
    }
    std::memset(state.tile, 0, sizeof state.tile);
    return state.configured = true;
  }

  bool multiply(Tile& sums) const {
    const Tile &left = state.tile[rm], &right = state.tile[vvvv];
    const int n_inner = state.row_bytes[rm] / 4, n_columns = state.row_bytes[reg] / 4;
    for (int m = 0; m < state.rows[reg]; m++)
      for (int n = 0; n < n_columns; n++) {
        float even = 0, odd = 0, total;
        for (int k = 0; k < n_inner; k++) {
          std::uint16_t a[2], b[2];
          std::memcpy(a, left.row[m] + 4 * k, 4);
          std::memcpy(b, right.row[k] + 4 * n, 4);
          even = __builtin_fmaf(wide(a[0]), wide(b[0]), even);
          odd = __builtin_fmaf(wide(a[1]), wide(b[1]), odd);
        }
        std::memcpy(&total, sums.row[m] + 4 * n, 4);
        total += even + odd;
        std::memcpy(sums.row[m] + 4 * n, &total, 4);
      }
    return true;
  }
};

void on_illegal_instruction(int, siginfo_t*, void* context) {
  greg_t* registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  Instruction instruction{reinterpret_cast<const std::uint8_t*>(registers[REG_RIP]), registers};
  if (!instruction.decode() || !instruction.run()) {
    signal(SIGILL, SIG_DFL);  // and it happens again
    return;
  }
  registers[REG_RIP] = reinterpret_cast<greg_t>(instruction.at);
}

__attribute__((constructor)) void install() {
  struct sigaction action{};
  action.sa_sigaction = on_illegal_instruction;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGILL, &action, nullptr);
}

}  // namespace
