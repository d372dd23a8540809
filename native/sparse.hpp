// Products whose left matrix has many zeros: the outputs of a ReLU, and gradients behind it. Terms
// with a zero are left out, which changes no bit of a sum: it starts at +0, and adding a zero of
// either sign to a number returns that number. There are two exceptions. A sum that consists of tiny
// negative products, which flush to -0, stays -0 here; nothing after it keeps that sign. And an
// infinite weight that a zero multiplies makes a dense sum NaN; learners check their weights.
//
// First the numbers that are not zero are listed, row by row. Then each of them multiplies a row of
// the right matrix, with up to MOST_VECTORS vectors of sums in registers.
#pragma once

#include "multiply.hpp"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace gallop::ISA {

constexpr int PANEL_VECTORS = PANEL / LANES;
constexpr int MOST_VECTORS = LANES == 4 ? PANEL_VECTORS : 12;
constexpr int MOST_PANELS = MOST_VECTORS / PANEL_VECTORS;

// The density below which leaving out zeros pays; from benchmarks/sparse_products.py.
constexpr float PAYS_BELOW = LANES == 4 ? 0.85f : 0.6f;

#if LANES == 8 && defined(__AVX2__)
// For every set of lanes: their numbers in order.
struct LaneTable {
  unsigned char lanes[256][8];
  constexpr LaneTable() : lanes{} {
    for (int set = 0; set < 256; set++)
      for (int lane = 0, n = 0; lane < 8; lane++)
        if (set >> lane & 1) lanes[set][n++] = static_cast<unsigned char>(lane);
  }
};
alignas(64) static constexpr LaneTable LANE_TABLE{};
#endif

// Appends the lanes of x that are not zero at `at`, and returns the new end. Lane i multiplies row
// first + i of the right matrix. Writes LANES entries, whatever their number.
INLINE int append(const Nonzeros& out, int at, Vec x, int first) {
#if LANES == 16 && defined(__AVX512F__)
  const __m512 v = reinterpret_cast<__m512>(x);
  const __mmask16 mask = _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_NEQ_UQ);
  const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m512i row =
      _mm512_add_epi32(_mm512_maskz_compress_epi32(mask, lane), _mm512_set1_epi32(first));
  // To a register, then to memory: compressing into memory is microcode on some processors.
  _mm512_storeu_ps(out.values + at, _mm512_maskz_compress_ps(mask, v));
  _mm512_storeu_si512(out.offsets + at, _mm512_mullo_epi32(row, _mm512_set1_epi32(PANEL)));
  // Shifted: where GCC 12 keeps a mask in memory, it stores 16 bits and reads 32.
  return at + __builtin_popcount(static_cast<unsigned>(mask) << 16);
#elif LANES == 8 && defined(__AVX2__)
  const __m256 v = reinterpret_cast<__m256>(x);
  const int mask = _mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_NEQ_UQ));
  const __m256i lane = _mm256_cvtepu8_epi32(
      _mm_loadl_epi64(reinterpret_cast<const __m128i*>(LANE_TABLE.lanes[mask])));
  const __m256i row = _mm256_add_epi32(lane, _mm256_set1_epi32(first));
  _mm256_storeu_ps(out.values + at, _mm256_permutevar8x32_ps(v, lane));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out.offsets + at), _mm256_slli_epi32(row, 5));
  static_assert(PANEL == 1 << 5);
  return at + __builtin_popcount(static_cast<unsigned>(mask));
#else
  for (int i = 0; i < LANES; i++) {
    out.values[at] = x[i];
    out.offsets[at] = (first + i) * PANEL;
    at += x[i] != 0;
  }
  return at;
#endif
}

// Lists rows [begin, end) of X [rows, columns]. Gives up if the first rows are denser than `below`.
inline void list_rows(const float* x, int rows, int columns, int begin, int end, float below,
                      const Nonzeros& out) {
  constexpr int FIRST_ROWS = 8;
  const int n_panels = panels(columns);
  int at = begin * out.capacity;
  for (int row = begin; row < end; row++) {
    if (row == begin + FIRST_ROWS &&
        static_cast<float>(at - begin * out.capacity) >= below * FIRST_ROWS * columns) {
      for (int each = begin; each < end; each++) out.ends[each * (out.n_blocks + 1)] = NOT_LISTED;
      return;
    }
    int* ends = out.ends + row * (out.n_blocks + 1);
    *ends++ = at;
    for (int panel = 0; panel < n_panels; panel++) {
      const float* from = x + element(rows, row, panel * PANEL);
#pragma GCC unroll 8
      for (int offset = 0; offset < PANEL; offset += LANES)
        at = append(out, at, load(from + offset), panel * PANEL + offset);
      if ((panel + 1) % BLOCK_PANELS == 0 || panel == n_panels - 1) *ends++ = at;
    }
  }
}

// Lists the 32 columns of one panel of X [rows, ...] in the memory of `out`; `from` is the panel's
// first row. Row i of the list is column i of the panel.
inline Nonzeros list_columns(const float* from, int rows, Nonzeros out) {
  out.n_blocks = (rows + SPARSE_BLOCK - 1) / SPARSE_BLOCK;
  int at[PANEL];
  Ints count[PANEL_VECTORS] = {};
  for (int row = 0; row < rows; row++)
#pragma GCC unroll 8
    for (int v = 0; v < PANEL_VECTORS; v++)
      count[v] -= load(from + row * PANEL + v * LANES) != Vec{};
  for (int i = 0, begin = 0; i < PANEL; i++) {
    out.ends[i * (out.n_blocks + 1)] = at[i] = begin;
    begin += count[i / LANES][i % LANES] + LANES;  // append() writes LANES at a time
  }
  for (int row = 0; row < rows; row += LANES) {
#pragma GCC unroll 1
    for (int offset = 0; offset < PANEL; offset += LANES) {
      Vec block[LANES];
#pragma GCC unroll 16
      for (int r = 0; r < LANES; r++)
        block[r] = row + r < rows ? load(from + (row + r) * PANEL + offset) : Vec{};
      transpose(block);
#pragma GCC unroll 16
      for (int i = 0; i < LANES; i++) at[offset + i] = append(out, at[offset + i], block[i], row);
    }
    if ((row + LANES) % SPARSE_BLOCK == 0 || row + LANES >= rows)
      for (int i = 0; i < PANEL; i++)
        out.ends[i * (out.n_blocks + 1) + row / SPARSE_BLOCK + 1] = at[i];
  }
  return out;
}

// Whether rows [begin, end) of a matrix with `columns` columns are less dense than `below`.
INLINE bool is_sparser(const Nonzeros& x, int columns, int begin, int end, float below) {
  std::ptrdiff_t n = 0;
  for (int row = begin; row < end; row++) {
    const int* ends = x.ends + row * (x.n_blocks + 1);
    if (ends[0] == NOT_LISTED) return false;
    n += ends[x.n_blocks] - ends[0];
  }
  return static_cast<float>(n) <
         below * static_cast<float>(columns) * static_cast<float>(end - begin);
}

// V vectors of columns of the product's rows [begin, end): sums[row - begin][v]. Goes through the
// right matrix [inner, ...] in blocks that stay in the first cache, and prefetches the next one, as
// the order of the addresses is irregular. Never inlined, so that every register is for sums.
template <int V>
__attribute__((noinline)) void sparse_sums(const Nonzeros& left, const float* right, int inner,
                                           int begin, int end, float* sums) {
  constexpr int N_PANELS = (V + PANEL_VECTORS - 1) / PANEL_VECTORS;
  constexpr int LINE = 16;  // floats
  const std::ptrdiff_t stride = panel_floats(inner, PANEL);
  const int n_rows = end - begin;
  for (int b = 0; b < left.n_blocks; b++) {
    const bool more = b + 1 < left.n_blocks;
    // After the last block comes the first one of the next panels.
    const float* next = right + (more ? (b + 1) * SPARSE_BLOCK * PANEL : N_PANELS * stride);
    const int rest = more ? inner - (b + 1) * SPARSE_BLOCK : inner;
    const int n_lines = (rest < SPARSE_BLOCK ? rest : SPARSE_BLOCK) * PANEL / LINE;
    const int lines_a_row = n_rows < 16 ? 0 : (n_lines + n_rows - 1) / n_rows;
    int line = 0;
    const int* ends = left.ends + begin * (left.n_blocks + 1) + b;
    float* here = sums;
    for (int row = 0; row < n_rows; row++, ends += left.n_blocks + 1, here += V * LANES) {
      for (int i = 0; i < lines_a_row && line < n_lines; i++, line++)
#pragma GCC unroll 12
        for (int p = 0; p < N_PANELS; p++) __builtin_prefetch(next + p * stride + line * LINE);
      Vec s[V];
#pragma GCC unroll 16
      for (int v = 0; v < V; v++) s[v] = b == 0 ? Vec{} : load(here + v * LANES);
      for (int i = ends[0]; i < ends[1]; i++) {
        const float* of_row = right + left.offsets[i];
        const Vec a = all(left.values[i]);
#pragma GCC unroll 16
        for (int v = 0; v < V; v++)
          s[v] += a * load(of_row + v / PANEL_VECTORS * stride + v % PANEL_VECTORS * LANES);
      }
#pragma GCC unroll 16
      for (int v = 0; v < V; v++) store(here + v * LANES, s[v]);
    }
  }
}

// Splits the columns of a product into groups of panels whose sums fit into the registers:
// group(first panel, vectors, function that adds up these vectors).
using SparseSums = void (*)(const Nonzeros&, const float*, int, int, int, float*);
template <class Group>
INLINE void in_groups(int columns, Group&& group) {
  static constexpr auto BY_VECTORS = []<int... V>(std::integer_sequence<int, V...>) {
    struct {
      SparseSums sums[MOST_VECTORS];
    } table{{sparse_sums<V + 1>...}};
    return table;
  }(std::make_integer_sequence<int, MOST_VECTORS>{});
  const int n = panels(columns), n_groups = (n + MOST_PANELS - 1) / MOST_PANELS;
  for (int i = 0; i < n_groups; i++) {
    const int panel = n * i / n_groups, n_panels = n * (i + 1) / n_groups - panel;
    const int left = columns - panel * PANEL;
    const int vectors = ((left < n_panels * PANEL ? left : n_panels * PANEL) + LANES - 1) / LANES;
    group(panel, vectors, BY_VECTORS.sums[vectors - 1]);
  }
}

// Rows [begin, end) of the left matrix times W [inner, columns]: calls epilogue(row, column, vector
// of sums).
template <class Epilogue>
INLINE void sparse_times_matrix(const Nonzeros& left, const float* w, int inner, int columns,
                                int begin, int end, Epilogue&& epilogue) {
  constexpr int MOST_ROWS = 64;
  alignas(64) float sums[MOST_ROWS * MOST_VECTORS * LANES];
  in_groups(columns, [&](int panel, int vectors, SparseSums add_up) INLINE_LAMBDA {
    for (int first = begin; first < end; first += MOST_ROWS) {
      const int n = end - first < MOST_ROWS ? end - first : MOST_ROWS;
      add_up(left, w + panel_floats(inner, PANEL) * panel, inner, first, first + n, sums);
      const float* from = sums;
      for (int row = first; row < first + n; row++)
        for (int v = 0; v < vectors; v++, from += LANES)
          epilogue(row, panel * PANEL + v * LANES, load(from));
    }
  });
}

// X^T D for one panel of D, whose columns are listed: [inputs, n_d]. Adds up its transpose, as the
// list tells for each column of D which rows of X [rows, inputs] it multiplies. Calls epilogue(row
// of the result, column in the panel, vector of sums), in blocks of LANES rows.
template <class Epilogue>
INLINE void transposed_times_sparse(const float* x, const Nonzeros& d, int inputs, int n_d,
                                    int rows, Epilogue&& epilogue) {
  alignas(64) float sums[PANEL * MOST_VECTORS * LANES];
  in_groups(inputs, [&](int panel, int vectors, SparseSums add_up) INLINE_LAMBDA {
    add_up(d, x + panel_floats(rows, PANEL) * panel, rows, 0, n_d, sums);
    for (int v = 0; v < vectors; v++)
      for (int offset = 0; offset < n_d; offset += LANES) {
        Vec block[LANES];
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
          block[i] = offset + i < n_d ? load(sums + ((offset + i) * vectors + v) * LANES) : Vec{};
        transpose(block);
        const int first = panel * PANEL + v * LANES;
        const int n = inputs - first < LANES ? inputs - first : LANES;
        for (int i = 0; i < n; i++) epilogue(first + i, offset, block[i]);
      }
  });
}

}  // namespace gallop::ISA
