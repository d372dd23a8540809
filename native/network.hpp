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

// Sparse products go through their right matrix in blocks of so many rows (panels of the left one).
constexpr int BLOCK_PANELS = 2, SPARSE_BLOCK = BLOCK_PANELS * PANEL;

enum class Activation { none, relu, tanh };

constexpr int MAX_LAYERS = 33;  // 32 hidden layers and the last one
constexpr int MAX_THREADS = 64;

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

  // The density below which products leave out zeros; 0: never.
  float sparse_below;

  // Whether a layer is large enough to leave out zeros.
  INLINE bool large(int l) const {
    return !layers[l].single && layers[l].inputs >= SPARSE_BLOCK &&
           layers[l].outputs >= SPARSE_BLOCK;
  }
  // Whether the input of layer l may have many zeros, and listing them pays.
  INLINE bool sparse_input(int l) const {
    return l > 0 && l < n_layers && layers[l - 1].activation == Activation::relu && large(l);
  }
  // The same for the gradient of its output.
  INLINE bool sparse_gradient(int l) const {
    return l > 0 && layers[l].activation == Activation::relu && large(l);
  }

  INLINE int inputs() const { return layers[0].inputs; }
  INLINE int outputs() const { return layers[n_layers - 1].outputs; }
};

// The numbers of a matrix that are not zero, row by row: `values`, and where in a panel of the right
// matrix the row begins that each of them multiplies. Block b of row r is in [ends[r][b],
// ends[r][b + 1]).
constexpr int NOT_LISTED = -1;  // ends[r][0] of a row in a matrix that is too dense
struct Nonzeros {
  int n_blocks, capacity;  // of a row
  int* ends;               // [rows, n_blocks + 1]
  float* values;
  int* offsets;
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

  // Of layers whose rows are the left matrix of a sparse product.
  Nonzeros nonzeros[MAX_LAYERS];
  // [threads], of one panel of gradients, for weight gradients; null if there will be none.
  Nonzeros* columns;

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
