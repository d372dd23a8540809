// Rounding of floats to bfloat16, in the layouts that fast layers multiply.
#pragma once

#include "tiles.hpp"

namespace gallop::ISA {

#ifdef __AVX512BF16__

// Rounds sixteen floats to the nearest bfloat16, in the lower half of each word. `rest` receives
// the rounding errors.
INLINE Ints rounded(Vec x, Vec& rest) {
  const __m256bh half = _mm512_cvtneps_pbh(reinterpret_cast<__m512>(x));
  using Shorts = std::uint16_t __attribute__((vector_size(LANES * 2)));
  const Ints words = __builtin_convertvector(reinterpret_cast<Shorts>(half), Ints);
  rest = x - bits(words << 16);
  return words;
}

// Interleaves two rows of floats word by word: the upper row's number is in the lower half of each
// word. Repeats this `parts` times, each time with the rounding errors of the previous part.
INLINE void pair_up(Vec upper, Vec lower, int parts, Words const* to, std::ptrdiff_t at) {
  for (int part = 0; part < parts; part++) {
    const Ints words = rounded(upper, upper) | (rounded(lower, lower) << 16);
    store(to[part] + at, words);
  }
}

// Stores sixteen pairs in a column each, which is where AMX reads them for weight gradients.
INLINE void put_columns(Vec upper, Vec lower, int parts, Words const* to, std::ptrdiff_t rows,
                        std::ptrdiff_t first, std::ptrdiff_t pair) {
  for (int part = 0; part < parts; part++) {
    const Ints words = rounded(upper, upper) | (rounded(lower, lower) << 16);
    Word* at = to[part] + (pair / HALF_PANEL * rows + first) * HALF_PANEL + pair % HALF_PANEL;
    for (int i = 0; i < LANES && first + i < rows; i++)
      at[i * HALF_PANEL] = {static_cast<std::uint32_t>(words[i])};
  }
}

// Rounds rows [begin, end) of layer l. `begin` is even, and so is `end` unless it is the last row.
inline void round_rows(const Network& network, const Batch& batch, int l, int begin, int end) {
  const int rows = batch.rows, columns = network.layers[l].outputs, parts = network.parts();
  const std::ptrdiff_t n_pairs = (rows + 1) / 2;
  const float* x = batch.layer[l];
  for (int panel = 0; panel < panels(columns); panel++)
    for (int row = begin; row < end; row += 2) {
      const float* at = x + element(rows, row, panel * PANEL);
      Vec upper[2] = {load(at), load(at + LANES)}, lower[2] = {};
      if (row + 1 < end) lower[0] = load(at + PANEL), lower[1] = load(at + PANEL + LANES);
      if (batch.rounded_pairs[l][0] != nullptr)
        for (int i = 0; i < 2; i++)
          pair_up(upper[i], lower[i], parts, batch.rounded_pairs[l],
                  (panel * n_pairs + row / 2) * PANEL + i * LANES);
      if (batch.rounded_columns[l][0] != nullptr)
        for (int i = 0; i < 2; i++)
          put_columns(upper[i], lower[i], parts, batch.rounded_columns[l], columns,
                      panel * PANEL + i * LANES, row / 2);
      for (int part = 0; part < parts; part++) {
        const std::ptrdiff_t to = (static_cast<std::ptrdiff_t>(panel) * rows + row) * HALF_PANEL;
        const auto put = [&](Vec* x2, std::ptrdiff_t where) INLINE_LAMBDA {
          const __m512bh both =
              _mm512_cvtne2ps_pbh(reinterpret_cast<__m512>(x2[1]), reinterpret_cast<__m512>(x2[0]));
          std::memcpy(batch.rounded[l][part] + where, &both, sizeof both);
          rounded(x2[0], x2[0]);
          rounded(x2[1], x2[1]);
        };
        put(upper, to);
        if (row + 1 < end) put(lower, to + HALF_PANEL);
      }
    }
}

// Rounds one 32 x 32 block of a fast layer's weights into all of its copies.
inline void round_block(const Network& network, int l, int input_panel, int output_panel) {
  const Layer& layer = network.layers[l];
  const int parts = network.parts();
  const std::ptrdiff_t n_pairs = (layer.inputs + 1) / 2, n_output_pairs = (layer.outputs + 1) / 2;
  const int first = input_panel * PANEL, n_inputs = columns_of(input_panel, layer.inputs);
  const auto row = [&](const float* w, int input, int o) INLINE_LAMBDA {
    return input < n_inputs ? load(w + layer.weights +
                                   element(layer.inputs, first + input, output_panel * PANEL) + o)
                            : Vec{};
  };
  for (int o = 0; o < PANEL; o += LANES) {
    for (int i = 0; i < n_inputs; i += 2) {
      const std::ptrdiff_t at = (output_panel * n_pairs + (first + i) / 2) * PANEL + o;
      pair_up(row(network.parameters, i, o), row(network.parameters, i + 1, o), parts,
              network.pairs[l], at);
      if (network.target != nullptr)
        pair_up(row(network.target, i, o), row(network.target, i + 1, o), parts,
                network.target_pairs[l], at);
    }
    for (int i = 0; i < PANEL; i += LANES) {
      Vec block[LANES];
      for (int r = 0; r < LANES; r++) block[r] = row(network.parameters, i + r, o);
      transpose(block);
      const int first_output = output_panel * PANEL + o;
      for (int r = 0; r < LANES && first_output + r < layer.outputs; r += 2)
        pair_up(block[r], block[r + 1], parts, network.transposed_pairs[l],
                (input_panel * n_output_pairs + (first_output + r) / 2) * PANEL + i);
    }
  }
}

#else

inline void round_rows(const Network&, const Batch&, int, int, int) {}
inline void round_block(const Network&, int, int, int) {}

#endif

}  // namespace gallop::ISA
