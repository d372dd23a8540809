// Vectors of LANES floats, and the few functions on them that networks need.
//
// They use GCC's and Clang's vector extensions instead of intrinsics, so that one source serves
// every instruction set. LANES must match the instruction set (16 for AVX-512, 8 for AVX2,
// otherwise 4): wider vectors are emulated, and the emulation spills every register.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#include "network.hpp"

#if !defined(LANES) || !defined(ISA)
#error "compile with -DLANES=<floats in a vector> -DISA=<namespace of this instruction set>"
#endif

namespace gallop::ISA {

using Vec = float __attribute__((vector_size(LANES * 4)));
using Ints = std::int32_t __attribute__((vector_size(LANES * 4)));
using Unaligned = float __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

INLINE Vec load(const float* p) { return *reinterpret_cast<const Unaligned*>(p); }
INLINE void store(float* p, Vec x) { *reinterpret_cast<Unaligned*>(p) = x; }
INLINE Vec all(float x) { return x - Vec{}; }

INLINE Vec bits(Ints x) { return reinterpret_cast<Vec>(x); }
INLINE Ints bits(Vec x) { return reinterpret_cast<Ints>(x); }

// Both preserve a NaN in x.
INLINE Vec at_least(Vec x, Vec low) { return low > x ? low : x; }
INLINE Vec at_most(Vec x, Vec high) { return high < x ? high : x; }

INLINE Vec square_root(Vec x) {
  Vec y;
  for (int i = 0; i < LANES; i++) y[i] = __builtin_sqrtf(x[i]);
  return y;
}

// The sum of all lanes, always in the same order.
INLINE float sum(Vec x) {
  float total[LANES];
  store(total, x);
  for (int half = LANES / 2; half > 0; half /= 2)
    for (int i = 0; i < half; i++) total[i] += total[i + half];
  return total[0];
}

// x = n ln 2 + r with |r| <= ln(2)/2: returns e^r - 1 and 2^n. There the error of Taylor's
// polynomial of degree 8 is less than half a unit in the last place.
struct Exponential {
  Vec fraction_minus_1, power;
};
INLINE Exponential exponential(Vec x) {
  x = at_most(at_least(x, all(-87.0f)), all(88.0f));
  const Vec magic = all(12582912.0f);  // 1.5 * 2^23: adding it rounds to the nearest integer
  const Vec shifted = x * all(1.44269504f) + magic;
  const Vec n = shifted - magic;
  // ln 2 in two parts: the first has so few bits that its product with n is exact.
  const Vec r = (x - n * all(0.693359375f)) + n * all(2.12194440e-4f);
  Vec p = all(1.0f / 40320);
  p = p * r + all(1.0f / 5040);
  p = p * r + all(1.0f / 720);
  p = p * r + all(1.0f / 120);
  p = p * r + all(1.0f / 24);
  p = p * r + all(1.0f / 6);
  p = p * r + all(0.5f);
  const Ints exponent = bits(shifted) - bits(magic) + 127;
  return {p * (r * r) + r, bits(exponent << 23)};
}

INLINE Vec exp(Vec x) {
  const Exponential e = exponential(x);
  return e.fraction_minus_1 * e.power + e.power;
}

// tanh |x| = t / (t + 2) with t = e^(2|x|) - 1, which is accurate near 0; and its slope
// 1 - tanh^2 = 4 e^(2|x|) / (t + 2)^2, which is accurate near 1, where the difference would cancel.
struct TanhAndSlope {
  Vec value, slope;
};
INLINE TanhAndSlope tanh_and_slope(Vec x) {
  const Vec magnitude = bits(bits(x) & 0x7fffffff);
  const Exponential e = exponential(at_most(magnitude + magnitude, all(40.0f)));
  const Vec t = e.fraction_minus_1 * e.power + (e.power - all(1.0f));
  const Vec inverse = all(1.0f) / (t + all(2.0f));
  const Vec sign = bits(bits(x) & static_cast<std::int32_t>(0x80000000));
  const Vec y = t / (t + all(2.0f));
  return {bits(bits(y) | bits(sign)), all(4.0f) * inverse * ((t + all(1.0f)) * inverse)};
}
INLINE Vec tanh(Vec x) { return tanh_and_slope(x).value; }

// Natural logarithm of positive normal numbers: x = 2^n m with sqrt(1/2) <= m < sqrt(2), and
// log m = 2 artanh((m - 1) / (m + 1)) by its series.
INLINE Vec log(Vec x) {
  const Ints half = static_cast<std::int32_t>(0x3f3504f3) + Ints{};  // bits of sqrt(1/2)
  const Ints n = (bits(x) - half) >> 23;
  const Vec m = bits(bits(x) - (n << 23));
  const Vec s = (m - all(1.0f)) / (m + all(1.0f)), z = s * s;
  Vec p = all(1.0f / 11);
  p = p * z + all(1.0f / 9);
  p = p * z + all(1.0f / 7);
  p = p * z + all(1.0f / 5);
  p = p * z + all(1.0f / 3);
  const Vec k = __builtin_convertvector(n, Vec);
  const Vec series = s * z * p + s;
  // (x - x) is 0, or NaN if x is NaN or infinite, which the integer arithmetic above would hide.
  return k * all(0.69314718f) + (series + series) + (x - x);
}

// Alternates the lanes of a and b; returns the lower or the upper half of the result.
template <int START, int... I>
INLINE Vec interleave(Vec a, Vec b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, (START + I / 2 + (I % 2) * LANES)...);
}

// Transposes a block of LANES x LANES in log2(LANES) rounds, each of which interleaves every row
// with the one half a block below it.
INLINE void transpose(Vec (&rows)[LANES]) {
  using All = std::make_integer_sequence<int, LANES>;
  for (int round = 1; round < LANES; round *= 2) {
    Vec next[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES / 2; i++) {
      next[2 * i] = interleave<0>(rows[i], rows[i + LANES / 2], All{});
      next[2 * i + 1] = interleave<LANES / 2>(rows[i], rows[i + LANES / 2], All{});
    }
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) rows[i] = next[i];
  }
}

}  // namespace gallop::ISA
