// Products of matrices in panels. Every sum adds its terms in order, one by one, in one
// accumulator, so that a result does not depend on how the work is split into blocks or threads.
#pragma once

#include "network.hpp"
#include "vectors.hpp"

namespace gallop::ISA {

// Register blocks: rows x 2 vectors of sums, 2 vectors of the right matrix, 1 of the left one.
#ifdef SMALL_BLOCKS
constexpr int BLOCK_ROWS = 3;  // less code, for builds with sanitizers
#elif LANES == 16 || defined(__aarch64__)
constexpr int BLOCK_ROWS = 14;  // 32 registers
#else
constexpr int BLOCK_ROWS = 6;  // 16 registers
#endif
constexpr int BLOCK_VECTORS = 2;

// The elements of a product: floats, or words of two bfloat16 numbers, whose two products are
// added to the sum in one instruction.
struct Floats {
  using Element = float;
  static constexpr int A_PANEL = PANEL;  // elements of a row in a panel
  INLINE static Vec add_product(Vec sum, Vec a, Vec b) { return sum + a * b; }
};

struct Halves {
  using Element = Word;
  static constexpr int A_PANEL = HALF_PANEL;
#ifdef __AVX512BF16__
  INLINE static Vec add_product(Vec sum, Ints a, Ints b) {
    return reinterpret_cast<Vec>(_mm512_dpbf16_ps(reinterpret_cast<__m512>(sum),
                                                  reinterpret_cast<__m512bh>(a),
                                                  reinterpret_cast<__m512bh>(b)));
  }
#endif  // other instruction sets cannot multiply words
};

// Pairs of matrices whose products are summed: one, or three where numbers have two parts.
template <class Elements>
struct Operands {
  using Element = typename Elements::Element;
  int n;
  const Element *left[3], *right[3];
};

INLINE Operands<Floats> one(const float* left, const float* right) {
  return {1, {left, nullptr, nullptr}, {right, nullptr, nullptr}};
}

INLINE Operands<Halves> parts_of(int parts, const Words* left, const Words* right) {
  if (parts == 1) return {1, {left[0], nullptr, nullptr}, {right[0], nullptr, nullptr}};
  return {3, {left[1], left[0], left[0]}, {right[0], right[1], right[0]}};  // small terms first
}

// The micro-kernel: sums[r][v] = sum over k < n of left(r, k) * right(k, v).
//
// left(r, k) is left[r * ROW_STRIDE + k * K_STRIDE]; right(k, v) is the v-th vector at right[32 k].
template <class Elements, int ROWS, int VECTORS, int ROW_STRIDE, int K_STRIDE>
INLINE void accumulate(Vec (&sums)[ROWS][VECTORS], const typename Elements::Element* left,
                       const typename Elements::Element* right, int n) {
#pragma GCC unroll 4
  for (int k = 0; k < n; k++, left += K_STRIDE, right += PANEL) {
    decltype(load(right)) b[VECTORS];
#pragma GCC unroll 2
    for (int v = 0; v < VECTORS; v++) b[v] = load(right + v * LANES);
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; r++) {
      const auto a = all(left[r * ROW_STRIDE]);
#pragma GCC unroll 2
      for (int v = 0; v < VECTORS; v++) sums[r][v] = Elements::add_product(sums[r][v], a, b[v]);
    }
  }
}

// Splits `n` rows, starting at `first`, into blocks of at most MAX rows whose sizes differ by at
// most one row.
template <int MAX, class Block>
INLINE void in_blocks(int first, int n, Block&& block) {
  if (n <= 0) return;
  const int n_blocks = (n + MAX - 1) / MAX, rows = n / n_blocks, n_larger = n % n_blocks;
  for (int i = 0; i < n_blocks; i++) {
    const int here = rows + (i < n_larger);
    block(first, here);
    first += here;
  }
}

// Calls function.template operator()<n>() for a number n that is known only at run time.
template <int MAX, class Function>
INLINE void with_constant(int n, Function&& function) {
  if constexpr (MAX == 1) {
    function.template operator()<1>();
  } else if (n == MAX) {
    function.template operator()<MAX>();
  } else {
    with_constant<MAX - 1>(n, static_cast<Function&&>(function));
  }
}

// Iterates over the vectors of a panel that contain any of its columns, two at a time if there are
// two: function(offset in the panel), with the number of vectors as template argument.
template <class Function>
INLINE void over_vectors(int columns, Function&& function) {
  int offset = 0;
  for (; offset + LANES < columns; offset += 2 * LANES) function.template operator()<2>(offset);
  if (offset < columns) function.template operator()<1>(offset);
}

INLINE int columns_of(int panel, int columns) {
  const int left = columns - panel * PANEL;
  return left < PANEL ? left : PANEL;
}

// X W for rows [begin, end) of X [rows, inner] and W [inner, columns]; `inner` counts elements.
// Calls epilogue(row, column, vector of sums).
template <class Elements, class Epilogue>
INLINE void rows_times_matrix(const Operands<Elements>& operands, int rows, int inner, int columns,
                              int begin, int end, Epilogue&& epilogue) {
  constexpr int A_PANEL = Elements::A_PANEL;
  for (int panel = 0; panel < panels(columns); panel++) {
    over_vectors(columns_of(panel, columns), [&]<int VECTORS>(int offset) INLINE_LAMBDA {
      in_blocks<BLOCK_ROWS>(begin, end - begin, [&](int first, int n) INLINE_LAMBDA {
        with_constant<BLOCK_ROWS>(n, [&]<int ROWS>() INLINE_LAMBDA {
          Vec sums[ROWS][VECTORS] = {};
          for (int i = 0; i < operands.n; i++) {
            const auto* left = operands.left[i] + static_cast<std::ptrdiff_t>(first) * A_PANEL;
            const auto* right = operands.right[i] + panel_floats(inner, PANEL) * panel + offset;
            for (int k = 0; k < inner; k += A_PANEL) {
              const int here = inner - k < A_PANEL ? inner - k : A_PANEL;
              accumulate<Elements, ROWS, VECTORS, A_PANEL, 1>(sums, left, right, here);
              left += static_cast<std::ptrdiff_t>(rows) * A_PANEL;
              right += A_PANEL * PANEL;
            }
          }
#pragma GCC unroll 16
          for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 2
            for (int v = 0; v < VECTORS; v++)
              epilogue(first + r, panel * PANEL + offset + v * LANES, sums[r][v]);
        });
      });
    });
  }
}

// One block of X^T D: n_x columns of a panel of X and n_d columns of a panel of D, both with `rows`
// rows of elements. Calls epilogue(row of the result, column in the panel, vector of sums).
constexpr int GRADIENT_ROWS = BLOCK_ROWS >= 8 ? 8 : 4;  // divides a panel
template <class Elements, class Epilogue>
INLINE void transposed_times_matrix(const Operands<Elements>& operands, int n_x, int n_d, int rows,
                                    Epilogue&& epilogue) {
  over_vectors(n_d, [&]<int VECTORS>(int offset) INLINE_LAMBDA {
    for (int first = 0; first < n_x; first += GRADIENT_ROWS) {
      const int n = n_x - first < GRADIENT_ROWS ? n_x - first : GRADIENT_ROWS;
      with_constant<GRADIENT_ROWS>(n, [&]<int ROWS>() INLINE_LAMBDA {
        Vec sums[ROWS][VECTORS] = {};
        for (int i = 0; i < operands.n; i++)
          accumulate<Elements, ROWS, VECTORS, 1, PANEL>(sums, operands.left[i] + first,
                                                        operands.right[i] + offset, rows);
#pragma GCC unroll 16
        for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 2
          for (int v = 0; v < VECTORS; v++) epilogue(first + r, offset + v * LANES, sums[r][v]);
      });
    }
  });
}

}  // namespace gallop::ISA
