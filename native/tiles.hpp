// Products in bfloat16 on AMX's matrix unit (Intel, "Architecture Instruction Set Extensions and
// Future Features", chapter 3). It has eight registers, called tiles, of 16 rows of 64 bytes. One
// instruction multiplies a [16, 32] matrix with a [32, 16] matrix in pairs of rows, and adds the
// product to 16 x 16 floats.
//
// Written in assembly, because GCC 12's intrinsics do not declare which memory they read and write.
#pragma once

#include <cstdint>

#include "multiply.hpp"

namespace gallop::ISA {

#ifdef AMX

constexpr int TILE = 16;  // rows of a tile, and words per row

// Configures the tiles of this thread; releases them at the end of its lifetime.
class Tiles {
 public:
  Tiles() {
    struct alignas(64) {
      std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
      std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      std::uint8_t rows[16] = {TILE, TILE, TILE, TILE, TILE, TILE, TILE, TILE};
    } shape;
    asm volatile("ldtilecfg (%0)" : : "r"(&shape) : "memory");
  }
  ~Tiles() { asm volatile("tilerelease" : : : "memory"); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;
};

// Tiles 0 to 3 hold 32 x 32 sums: upper left, upper right, lower left, lower right.
INLINE void clear_sums() {
  asm volatile("tilezero %%tmm0\n tilezero %%tmm1\n tilezero %%tmm2\n tilezero %%tmm3" : : :);
}

// Adds the product of 32 rows of 16 words and 16 rows of a panel of 32 words.
INLINE void add_products(const Word* left, const Word* right) {
  asm volatile(
      "tileloadd (%0,%2,1), %%tmm4\n"
      "tileloadd (%1,%3,1), %%tmm6\n"
      "tdpbf16ps %%tmm6, %%tmm4, %%tmm0\n"
      "tileloadd 64(%1,%3,1), %%tmm7\n"
      "tdpbf16ps %%tmm7, %%tmm4, %%tmm1\n"
      "tileloadd 1024(%0,%2,1), %%tmm5\n"
      "tdpbf16ps %%tmm6, %%tmm5, %%tmm2\n"
      "tdpbf16ps %%tmm7, %%tmm5, %%tmm3"
      :
      : "r"(left), "r"(right), "r"(std::ptrdiff_t{64}), "r"(std::ptrdiff_t{128})
      : "memory");
}

// Stores the sums, [32, 32].
INLINE void store_sums(float* to) {
  asm volatile(
      "tilestored %%tmm0, (%0,%1,1)\n"
      "tilestored %%tmm1, 64(%0,%1,1)\n"
      "tilestored %%tmm2, (%2,%1,1)\n"
      "tilestored %%tmm3, 64(%2,%1,1)"
      :
      : "r"(to), "r"(std::ptrdiff_t{128}), "r"(to + TILE * PANEL)
      : "memory");
}

// X W for `n` <= 32 rows of X [rows, inner], starting at `first`, and one panel of W [inner,
// columns]; `inner` counts words. Calls epilogue(row, column, vector of sums).
template <class Epilogue>
INLINE void tiled_block(const Operands<Halves>& operands, std::ptrdiff_t rows, int inner, int first,
                        int n, int panel, int columns, Epilogue&& epilogue) {
  constexpr std::size_t ROW = HALF_PANEL * sizeof(Word), PANEL_ROW = PANEL * sizeof(Word);
  alignas(64) float sums[PANEL * PANEL];
  // Blocks that would reach beyond a matrix are copied here and padded with zeros.
  alignas(64) Word left_rest[PANEL * HALF_PANEL], right_rest[TILE * PANEL];
  if (n < PANEL) std::memset(left_rest, 0, sizeof left_rest);
  clear_sums();
  for (int i = 0; i < operands.n; i++)
    for (int k = 0; k < inner; k += TILE) {
      const Word* left = operands.left[i] + k * rows + std::ptrdiff_t{first} * HALF_PANEL;
      const Word* right = operands.right[i] + panel_floats(inner, PANEL) * panel + k * PANEL;
      if (n < PANEL) {
        std::memcpy(left_rest, left, static_cast<std::size_t>(n) * ROW);
        left = left_rest;
      }
      if (inner - k < TILE) {
        std::memset(right_rest, 0, sizeof right_rest);
        std::memcpy(right_rest, right, static_cast<std::size_t>(inner - k) * PANEL_ROW);
        right = right_rest;
      }
      add_products(left, right);
    }
  store_sums(sums);
  for (int row = 0; row < n; row++)
    for (int column = 0; column < columns_of(panel, columns); column += LANES)
      epilogue(first + row, panel * PANEL + column, load(sums + row * PANEL + column));
}

#else

struct Tiles {
  Tiles() {}
};

#endif

// X W in bfloat16 for rows [begin, end), as in multiply.hpp. Does nothing on instruction sets
// without bfloat16, where python/mlp.hpp refuses networks that need it.
template <class Epilogue>
INLINE void rounded_rows_times_matrix(const Operands<Halves>& operands, int rows, int inner,
                                      int columns, int begin, int end, Epilogue&& epilogue) {
#ifdef AMX
  for (int panel = 0; panel < panels(columns); panel++)
    for (int first = begin; first < end; first += PANEL)
      tiled_block(operands, rows, inner, first, end - first < PANEL ? end - first : PANEL, panel,
                  columns, epilogue);
#else
  if constexpr (HAS_BF16) rows_times_matrix(operands, rows, inner, columns, begin, end, epilogue);
#endif
}

}  // namespace gallop::ISA
