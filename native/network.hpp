// What a network is: its layers, and where its numbers lie. No arithmetic: see layer.hpp.
#pragma once

#include <cstddef>
#include <cstdint>

#define INLINE inline __attribute__((always_inline))
#define INLINE_LAMBDA __attribute__((always_inline))

namespace gallop {

// Every matrix, weights and activations alike, lies in panels of 32 columns: first columns 0 to 31
// of all rows, row by row, then columns 32 to 63, and so on. So a product reads everything in the
// order of memory, whatever the widths. Columns beyond the last are zero and stay zero.
constexpr int PANEL = 32;
INLINE constexpr int panels(int columns) { return (columns + PANEL - 1) / PANEL; }
INLINE constexpr std::ptrdiff_t panel_floats(std::ptrdiff_t rows, int columns) {
  return rows * panels(columns) * PANEL;
}
INLINE constexpr std::ptrdiff_t element(std::ptrdiff_t rows, std::ptrdiff_t row, int column) {
  return (column / PANEL * rows + row) * PANEL + column % PANEL;
}

enum class Activation { none, relu, tanh };

constexpr int MAX_LAYERS = 33;  // 32 hidden ones and the last

// How the layers between hidden units multiply. Numbers of 16 bits (bfloat16: float32's range, 8
// bits of precision) go twice as fast or more. One such number stands for a float (bf16), or two
// whose sum is nearly the float, of whose four products the three larger ones count (bf16x3).
// Everything else is float32: first and last layers, sums, biases, losses, Adam, targets.
enum class Precision { float32, bf16, bf16x3 };
constexpr int MAX_PARTS = 2;

// Two numbers in bfloat16. A type of its own, so that no product of floats can be given words, and
// none of words floats.
struct Word {
  std::uint32_t bits;
};

// A matrix of words. Along a row: [rows, columns / 2] in panels of 16 words. In pairs: row 2i beside
// row 2i + 1, [rows / 2, columns] in panels of 32 words. Down columns, for AMX only: the transposed
// matrix along its rows.
using Words = Word*;
constexpr int HALF_PANEL = PANEL / 2;

// y = activation(x W + b). W is [inputs, outputs] in panels; a last layer of one output has a plain
// vector [inputs] instead, filled up to whole panels.
struct Layer {
  int inputs, outputs;
  Activation activation;
  bool single;                     // the network's only output: one float a row, no panel
  std::ptrdiff_t weights, biases;  // where they begin in the network's parameters

  INLINE std::ptrdiff_t weight_floats() const {
    return single ? panel_floats(1, inputs) : panel_floats(inputs, outputs);
  }
};

// What a gradient step changes: arrays of one layout, which belong to Python.
struct Weights {
  float* parameters;
  float* first_moment;   // Adam's
  float* second_moment;  // Adam's
  float* target;         // Polyak average of the parameters, or null
};

// A multilayer perceptron.
struct Network : Weights {
  int n_layers;
  Layer layers[MAX_LAYERS];
  std::ptrdiff_t size;  // floats in each of its arrays
  // W transposed, [outputs, inputs] in panels, for the way back; follows the parameters.
  float* transposed[MAX_LAYERS];
  // The same in bfloat16, for layers that are `fast`: W and the target's W in pairs of inputs, the
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

// Numbers that belong to a batch: what a forward pass leaves behind for the backward pass
// (outputs after the activation), or the backward pass's own (gradients before the activation).
struct Batch {
  int rows;
  float* memory;  // all of the layers' (and the input's) numbers in one piece
  std::ptrdiff_t size;
  float* input;              // [rows, inputs] in panels
  float* layer[MAX_LAYERS];  // [rows, outputs] in panels; one float a row for a single output
  // Of gradients that belong to some rows of a batch only: to which. Null: row i's to row i.
  const int* rows_of;

  INLINE int row_of(int row) const { return rows_of == nullptr ? row : rows_of[row]; }

  // In bfloat16, where a fast layer takes it: along rows and in pairs of rows.
  Words rounded[MAX_LAYERS][MAX_PARTS];
  // Null where no weight gradient is wanted.
  Words rounded_pairs[MAX_LAYERS][MAX_PARTS], rounded_columns[MAX_LAYERS][MAX_PARTS];

  // Element of the network's own output, or of its gradient.
  INLINE float& output(const Network& network, int row, int column) const {
    float* last = layer[network.n_layers - 1];
    return network.outputs() == 1 ? last[row] : last[element(rows, row, column)];
  }
};

// One step of Adam (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1), with its bias corrections
// worked out beforehand.
struct Adam {
  float rest1, rest2;  // 1 - beta1, 1 - beta2: from float betas they would lose five digits
  float beta2, epsilon;
  float step_size;                // learning rate / (1 - beta1^t)
  float inverse_root_correction;  // 1 / sqrt(1 - beta2^t)
  float weight_decay;             // as torch.optim.Adam has it: added to the gradient
};

}  // namespace gallop
