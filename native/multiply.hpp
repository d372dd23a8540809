// Products of matrices in panels. Every sum adds its terms in order, one by one, in one
// accumulator, so that a result does not depend on how the work is split into blocks or threads.
#pragma once

#include "network.hpp"
#include "vectors.hpp"

namespace gallop::ISA {

// Register blocks: rows x 2 vectors of sums, 2 vectors of the right matrix, 1 of the left one.
#ifdef SMALL_BLOCKS
constexpr int BLOCK_ROWS = 2;  // less code, for builds with sanitizers
#elif LANES == 16 || defined(__aarch64__)
constexpr int BLOCK_ROWS = 14;  // 32 registers
#else
constexpr int BLOCK_ROWS = 6;  // 16 registers
#endif
constexpr int BLOCK_VECTORS = 2;

// The micro-kernel: sums[r][v] = sum over k < n of left(r, k) * right(k, v).
//
// left(r, k) is left[r * ROW_STRIDE + k * K_STRIDE]; right(k, v) is the v-th vector at right[32 k].
template <int ROWS, int VECTORS, int ROW_STRIDE, int K_STRIDE>
INLINE void accumulate(Vec (&sums)[ROWS][VECTORS], const float* left, const float* right, int n) {
#pragma GCC unroll 4
  for (int k = 0; k < n; k++, left += K_STRIDE, right += PANEL) {
    Vec b[VECTORS];
#pragma GCC unroll 2
    for (int v = 0; v < VECTORS; v++) b[v] = load(right + v * LANES);
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; r++) {
      const Vec a = all(left[r * ROW_STRIDE]);
#pragma GCC unroll 2
      for (int v = 0; v < VECTORS; v++) sums[r][v] += a * b[v];
    }
  }
}

// Splits `n` rows, starting at `first`, into blocks of at most MAX rows: even numbers that differ by
// at most two, and a single row if one is left. So half as many blocks are compiled.
template <int MAX, class Block>
INLINE void in_blocks(int first, int n, Block&& block) {
  static_assert(MAX % 2 == 0);
  const int n_pairs = n / 2, n_blocks = (n_pairs + MAX / 2 - 1) / (MAX / 2);
  for (int i = 0; i < n_blocks; i++) {
    const int here = 2 * (n_pairs / n_blocks + (i < n_pairs % n_blocks));
    block(first, here);
    first += here;
  }
  if (n % 2) block(first, 1);
}

// Calls function.template operator()<n>() for a number n of rows, as in_blocks() splits them.
template <int MAX, class Function>
INLINE void with_constant(int n, Function&& function) {
  if constexpr (MAX == 0) {
    function.template operator()<1>();
  } else if (n == MAX) {
    function.template operator()<MAX>();
  } else {
    with_constant<MAX - 2>(n, static_cast<Function&&>(function));
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

// X W for rows [begin, end) of X [rows, inner] and W [inner, columns]. Calls epilogue(row, column,
// vector of sums).
template <class Epilogue>
INLINE void rows_times_matrix(const float* x, const float* w, int rows, int inner, int columns,
                              int begin, int end, Epilogue&& epilogue) {
  for (int panel = 0; panel < panels(columns); panel++) {
    over_vectors(columns_of(panel, columns), [&]<int VECTORS>(int offset) INLINE_LAMBDA {
      in_blocks<BLOCK_ROWS>(begin, end - begin, [&](int first, int n) INLINE_LAMBDA {
        with_constant<BLOCK_ROWS>(n, [&]<int ROWS>() INLINE_LAMBDA {
          Vec sums[ROWS][VECTORS] = {};
          const float* left = x + static_cast<std::ptrdiff_t>(first) * PANEL;
          const float* right = w + panel_floats(inner, PANEL) * panel + offset;
          for (int k = 0; k < inner; k += PANEL) {
            const int here = inner - k < PANEL ? inner - k : PANEL;
            accumulate<ROWS, VECTORS, PANEL, 1>(sums, left, right, here);
            left += static_cast<std::ptrdiff_t>(rows) * PANEL;
            right += PANEL * PANEL;
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
// rows. Calls epilogue(row of the result, column in the panel, vector of sums).
constexpr int GRADIENT_ROWS = BLOCK_ROWS >= 8 ? 8 : BLOCK_ROWS;
template <class Epilogue>
INLINE void transposed_times_matrix(const float* x, const float* d, int n_x, int n_d, int rows,
                                    Epilogue&& epilogue) {
  over_vectors(n_d, [&]<int VECTORS>(int offset) INLINE_LAMBDA {
    in_blocks<GRADIENT_ROWS>(0, n_x, [&](int first, int n) INLINE_LAMBDA {
      with_constant<GRADIENT_ROWS>(n, [&]<int ROWS>() INLINE_LAMBDA {
        Vec sums[ROWS][VECTORS] = {};
        accumulate<ROWS, VECTORS, 1, PANEL>(sums, x + first, d + offset, rows);
#pragma GCC unroll 16
        for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 2
          for (int v = 0; v < VECTORS; v++) epilogue(first + r, offset + v * LANES, sums[r][v]);
      });
    });
  });
}

}  // namespace gallop::ISA
