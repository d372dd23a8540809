// The definition of a network: its layers and their layout in memory. The arithmetic is in
// layer.hpp.
#pragma once

#include <cstddef>
#include <cstdint>

#define INLINE inline __attribute__((always_inline))
#define INLINE_LAMBDA __attribute__((always_inline))

namespace gallop {

// Every matrix, of weights or activations, is stored in panels of 32 columns: first columns 0 to 31
// of all rows, row by row, then columns 32 to 63, and so on. A product then reads memory in order,
// regardless of the widths. Padding columns are zero and stay zero.
constexpr int PANEL = 32;
INLINE constexpr int panels(int columns) { return (columns + PANEL - 1) / PANEL; }
INLINE constexpr std::ptrdiff_t panel_floats(std::ptrdiff_t rows, int columns) {
  return rows * panels(columns) * PANEL;
}
INLINE constexpr std::ptrdiff_t element(std::ptrdiff_t rows, std::ptrdiff_t row, int column) {
  return (column / PANEL * rows + row) * PANEL + column % PANEL;
}

enum class Activation { none, relu, tanh };

constexpr int MAX_LAYERS = 33;  // 32 hidden layers and the last one

// The precision of products in layers between hidden units. bfloat16 has float32's range and 8 bits
// of precision, and is multiplied at least twice as fast. bf16 replaces a float by one such number;
// bf16x3 replaces it by two, whose sum is nearly the float, and computes the three larger ones of
// their four products. Everything else is float32: first and last layers, sums, biases, losses,
// Adam, targets.
enum class Precision { float32, bf16, bf16x3 };
constexpr int MAX_PARTS = 2;

// Two bfloat16 numbers. A separate type, so that the compiler rejects words in a product of floats
// and floats in a product of words.
struct Word {
  std::uint32_t bits;
};

// A matrix of words, in one of three layouts. Along a row: [rows, columns / 2] in panels of 16
// words. In pairs: a word holds rows 2i and 2i + 1 of a column, [rows / 2, columns] in panels of 32
// words. Down columns, for AMX only: the transposed matrix along its rows.
using Words = Word*;
constexpr int HALF_PANEL = PANEL / 2;

// y = activation(x W + b). W is [inputs, outputs] in panels. A last layer with one output has a
// plain vector [inputs] instead, padded to whole panels.
struct Layer {
  int inputs, outputs;
  Activation activation;
  bool single;                     // the network's only output: one float per row, no panel
  std::ptrdiff_t weights, biases;  // offsets in the network's parameters

  INLINE std::ptrdiff_t weight_floats() const {
    return single ? panel_floats(1, inputs) : panel_floats(inputs, outputs);
  }
};

// The arrays that a gradient step changes. They share one layout and belong to Python.
struct Weights {
  float* parameters;
  float* first_moment;   // of Adam
  float* second_moment;  // of Adam
  float* target;         // Polyak average of the parameters, or null
};

// A multilayer perceptron.
struct Network : Weights {
  int n_layers;
  Layer layers[MAX_LAYERS];
  std::ptrdiff_t size;  // floats in each array
  // W transposed, [outputs, inputs] in panels, for the backward pass; follows the parameters.
  float* transposed[MAX_LAYERS];
  // In bfloat16, for layers that are `fast`: W and the target's W in pairs of inputs, and the
  // transposed W in pairs of outputs; one or two parts.
  Precision precision;
  Words pairs[MAX_LAYERS][MAX_PARTS];
  Words target_pairs[MAX_LAYERS][MAX_PARTS];
  Words transposed_pairs[MAX_LAYERS][MAX_PARTS];

  INLINE int parts() const { return precision == Precision::bf16x3 ? 2 : 1; }
  INLINE bool fast(int layer) const {
    return precision != Precision::float32 && layer > 0 && layer < n_layers - 1;
  }

  INLINE int inputs() const { return layers[0].inputs; }
  INLINE int outputs() const { return layers[n_layers - 1].outputs; }
};

// The data of a batch: either what the forward pass stores for the backward pass (outputs after the
// activation), or the gradients of the backward pass (before the activation).
struct Batch {
  int rows;
  float* memory;  // the data of all layers and of the input, in one piece
  std::ptrdiff_t size;
  float* input;              // [rows, inputs] in panels
  float* layer[MAX_LAYERS];  // [rows, outputs] in panels; one float per row for a single output
  // For gradients of a subset of a batch's rows: the rows. Null: gradient i belongs to row i.
  const int* rows_of;

  INLINE int row_of(int row) const { return rows_of == nullptr ? row : rows_of[row]; }

  // In bfloat16, as inputs of fast layers: along rows, and in pairs of rows.
  Words rounded[MAX_LAYERS][MAX_PARTS];
  // Null if no weight gradient is needed.
  Words rounded_pairs[MAX_LAYERS][MAX_PARTS], rounded_columns[MAX_LAYERS][MAX_PARTS];

  // An element of the network's output, or of its gradient.
  INLINE float& output(const Network& network, int row, int column) const {
    float* last = layer[network.n_layers - 1];
    return network.outputs() == 1 ? last[row] : last[element(rows, row, column)];
  }
};

// One step of Adam (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1), with precomputed bias
// corrections.
struct Adam {
  float rest1, rest2;  // 1 - beta1, 1 - beta2: computed from floats they would lose five digits
  float beta2, epsilon;
  float step_size;                // learning rate / (1 - beta1^t)
  float inverse_root_correction;  // 1 / sqrt(1 - beta2^t)
  float weight_decay;             // added to the gradient, as in torch.optim.Adam
};

}  // namespace gallop
