// Forward pass, backward pass and Adam step of a network.
//
// forward() and backward() take a range of rows, update() takes a share of the columns. So threads
// can work on one network without adding up partial sums.
#pragma once

#include "sparse.hpp"

namespace gallop::ISA {

// tanh of rows [begin, end) of a matrix. This is a separate pass because inlining tanh into every
// block of the product would multiply the size of the code.
inline void apply_tanh(float* y, int rows, int columns, int begin, int end) {
  for (int panel = 0; panel < panels(columns); panel++)
    for (int row = begin; row < end; row++)
      for (int offset = 0; offset < columns_of(panel, columns); offset += LANES) {
        float* at = y + element(rows, row, panel * PANEL) + offset;
        store(at, tanh(load(at)));
      }
}

// Derivative of the activation, computed from its output.
INLINE Vec slope(Activation activation, Vec output) {
  if (activation == Activation::relu) return output > Vec{} ? all(1.0f) : Vec{};
  if (activation == Activation::tanh) return all(1.0f) - output * output;
  return all(1.0f);
}

inline const float* input_of(const Batch& batch, int layer) {
  return layer == 0 ? batch.input : batch.layer[layer - 1];
}

// A layer with one output: y[row] = activation(x[row] . w + b).
inline void forward_single(const Layer& layer, const float* parameters, const float* x, int rows,
                           float* y, int begin, int end) {
  const float* w = parameters + layer.weights;
  const float bias = parameters[layer.biases];
  for (int row = begin; row < end; row++) {
    Vec total{};
    for (int panel = 0; panel < panels(layer.inputs); panel++)
      for (int offset = 0; offset < PANEL; offset += LANES)
        total +=
            load(x + element(rows, row, panel * PANEL) + offset) * load(w + panel * PANEL + offset);
    const float output = sum(total) + bias;
    if (layer.activation == Activation::relu)
      y[row] = output < 0 ? 0 : output;
    else
      y[row] = layer.activation == Activation::tanh ? tanh(all(output))[0] : output;
  }
}

inline void forward_layer(const Network& network, const float* parameters, const Batch& batch,
                          int l, int begin, int end) {
  const Layer& layer = network.layers[l];
  const float* bias = parameters + layer.biases;
  float* y = batch.layer[l];
  const int rows = batch.rows;
  const bool is_relu = layer.activation == Activation::relu;
  const auto keep = [&](int row, int column, Vec total) INLINE_LAMBDA {
    const Vec z = total + load(bias + column);
    store(y + element(rows, row, column), is_relu ? at_least(z, Vec{}) : z);
  };
  const float* w = parameters + layer.weights;
  if (network.sparse_input(l) &&
      is_sparser(batch.nonzeros[l - 1], layer.inputs, begin, end, network.sparse_below))
    sparse_times_matrix(batch.nonzeros[l - 1], w, layer.inputs, layer.outputs, begin, end, keep);
  else
    rows_times_matrix(input_of(batch, l), w, rows, layer.inputs, layer.outputs, begin, end, keep);
  if (layer.activation == Activation::tanh) apply_tanh(y, rows, layer.outputs, begin, end);
  if (network.sparse_input(l + 1))
    list_rows(y, rows, layer.outputs, begin, end, network.sparse_below, batch.nonzeros[l]);
}

// Computes rows [begin, end) of every layer, with the network's parameters or its target's.
inline void forward(const Network& network, const float* parameters, const Batch& batch, int begin,
                    int end) {
  for (int l = 0; l < network.n_layers; l++)
    if (network.layers[l].single)
      forward_single(network.layers[l], parameters, input_of(batch, l), batch.rows, batch.layer[l],
                     begin, end);
    else
      forward_layer(network, parameters, batch, l, begin, end);
}

// Computes gradients.layer[l - 1] from gradients.layer[l], both before the activation. For l = 0
// it writes the gradient of the network's input to gradients.input.
inline void backward_layer(const Network& network, const Batch& batch, const Batch& gradients,
                           int l, int begin, int end) {
  const Layer& layer = network.layers[l];
  const int rows = batch.rows;
  const float *d = gradients.layer[l], *x = input_of(batch, l);
  float* out = l == 0 ? gradients.input : gradients.layer[l - 1];
  const Activation below = l == 0 ? Activation::none : network.layers[l - 1].activation;
  if (layer.single) {
    const float* w = network.parameters + layer.weights;
    for (int panel = 0; panel < panels(layer.inputs); panel++)
      for (int row = begin; row < end; row++) {
        const float* from = x + element(rows, gradients.row_of(row), panel * PANEL);
        float* to = out + element(rows, row, panel * PANEL);
        for (int offset = 0; offset < PANEL; offset += LANES)
          store(to + offset,
                all(d[row]) * load(w + panel * PANEL + offset) * slope(below, load(from + offset)));
      }
  } else {
    const auto keep = [&](int row, int column, Vec total) INLINE_LAMBDA {
      const auto of = element(rows, gradients.row_of(row), column);
      store(out + element(rows, row, column), total * slope(below, load(x + of)));
    };
    const float* w = network.transposed[l];
    if (network.sparse_gradient(l) &&
        is_sparser(gradients.nonzeros[l], layer.outputs, begin, end, network.sparse_below))
      sparse_times_matrix(gradients.nonzeros[l], w, layer.outputs, layer.inputs, begin, end, keep);
    else
      rows_times_matrix(d, w, rows, layer.outputs, layer.inputs, begin, end, keep);
  }
  if (l > 0 && network.sparse_gradient(l - 1))
    list_rows(out, rows, layer.inputs, begin, end, network.sparse_below, gradients.nonzeros[l - 1]);
}

// From gradients.layer[last] down to the first layer, and to the input if gradients.input is set.
inline void backward(const Network& network, const Batch& batch, const Batch& gradients, int begin,
                     int end) {
  for (int l = network.n_layers - 1; l > 0; l--)
    backward_layer(network, batch, gradients, l, begin, end);
  if (gradients.input != nullptr) backward_layer(network, batch, gradients, 0, begin, end);
}

// --- the update ----------------------------------------------------------------------------------

// Applies Adam to parameters, given their gradient. If `tau` is 0, the target does not change.
struct AdamStep {
  const Weights& weights;
  const Adam& adam;
  float tau;

  INLINE void operator()(std::ptrdiff_t at, Vec gradient) const {
    const Vec w = load(weights.parameters + at);
    if (adam.weight_decay != 0) gradient += all(adam.weight_decay) * w;
    Vec m = load(weights.first_moment + at), v = load(weights.second_moment + at);
    m += (gradient - m) * all(adam.rest1);
    v = v * all(adam.beta2) + gradient * gradient * all(adam.rest2);
    store(weights.first_moment + at, m);
    store(weights.second_moment + at, v);
    const Vec root = square_root(v) * all(adam.inverse_root_correction) + all(adam.epsilon);
    const Vec next = w - all(adam.step_size) * (m / root);
    store(weights.parameters + at, next);
    if (tau != 0) {  // theta' <- (1 - tau) theta' + tau theta
      const Vec t = load(weights.target + at);
      store(weights.target + at, t * all(1 - tau) + next * all(tau));
    }
  }
};

// Stores the gradient, in the parameters' layout, for callers that need all of it before a step.
struct KeepGradient {
  float* out;
  INLINE void operator()(std::ptrdiff_t at, Vec gradient) const { store(out + at, gradient); }
};

inline void transpose_block(const Network& network, int l, int input_panel, int output_panel) {
  const Layer& layer = network.layers[l];
  const float* w = network.parameters + layer.weights;
  const int n_inputs = columns_of(input_panel, layer.inputs);
  const int n_outputs = columns_of(output_panel, layer.outputs);
  for (int i = 0; i < PANEL; i += LANES)
    for (int o = 0; o < PANEL; o += LANES) {
      Vec block[LANES];
      for (int r = 0; r < LANES; r++) {
        const int input = input_panel * PANEL + i + r;
        block[r] = i + r < n_inputs
                       ? load(w + element(layer.inputs, input, output_panel * PANEL) + o)
                       : Vec{};
      }
      transpose(block);
      for (int r = 0; r < LANES && o + r < n_outputs; r++) {
        const int output = output_panel * PANEL + o + r;
        store(network.transposed[l] + element(layer.outputs, output, input_panel * PANEL) + i,
              block[r]);
      }
    }
}

// Updates the transposed copies of the weights after the parameters were changed from outside.
inline void refresh(const Network& network) {
  for (int l = 0; l < network.n_layers; l++)
    if (!network.layers[l].single)
      for (int i = 0; i < panels(network.layers[l].inputs); i++)
        for (int o = 0; o < panels(network.layers[l].outputs); o++)
          transpose_block(network, l, i, o);
}

// Computes the gradient of every parameter in this share of the columns, and passes it to `consume`
// (AdamStep or KeepGradient) while it is still in a register.
template <class Consume>
INLINE void update_layer(const Network& network, const Batch& batch, const Batch& gradients, int l,
                         int share, int n_shares, int thread, const Consume& consume) {
  const Layer& layer = network.layers[l];
  const int rows = batch.rows;
  const float *x = input_of(batch, l), *d = gradients.layer[l];
  if (layer.single) {
    if (share != 0) return;
    for (int panel = 0; panel < panels(layer.inputs); panel++)
      for (int offset = 0; offset < PANEL; offset += LANES) {
        Vec total{};
        for (int row = 0; row < rows; row++)
          total += all(d[row]) * load(x + element(rows, row, panel * PANEL) + offset);
        consume(layer.weights + panel * PANEL + offset, total);
      }
    Vec total{};  // the bias is in the first lane of its panel
    for (int row = 0; row < rows; row++) total[0] += d[row];
    consume(layer.biases, total);
    return;
  }
  // Listing columns costs more than listing rows.
  const bool is_sparse =
      network.sparse_gradient(l) &&
      is_sparser(gradients.nonzeros[l], layer.outputs, 0, rows, 0.75f * network.sparse_below);
  const int n_panels = panels(layer.outputs);
  for (int o = n_panels * share / n_shares; o < n_panels * (share + 1) / n_shares; o++) {
    const float* d_panel = d + panel_floats(rows, PANEL) * o;
    for (int offset = 0; offset < PANEL; offset += LANES) {
      Vec total{};
      for (int row = 0; row < rows; row++)
        total += load(d_panel + static_cast<std::ptrdiff_t>(row) * PANEL + offset);
      consume(layer.biases + o * PANEL + offset, total);
    }
    const int n_d = columns_of(o, layer.outputs), n_inputs = panels(layer.inputs);
    if (is_sparse) {
      const Nonzeros columns = list_columns(d_panel, rows, gradients.columns[thread]);
      transposed_times_sparse(
          x, columns, layer.inputs, n_d, rows, [&](int row, int column, Vec total) INLINE_LAMBDA {
            consume(layer.weights + element(layer.inputs, row, o * PANEL + column), total);
          });
    } else {
      for (int i = 0; i < n_inputs; i++)
        transposed_times_matrix(
            x + panel_floats(rows, PANEL) * i, d_panel, columns_of(i, layer.inputs), n_d, rows,
            [&](int row, int column, Vec total) INLINE_LAMBDA {
              consume(layer.weights + element(layer.inputs, i * PANEL + row, o * PANEL + column),
                      total);
            });
    }
    if constexpr (!requires { consume.out; })
      for (int i = 0; i < n_inputs; i++) transpose_block(network, l, i, o);
  }
}

// `thread` is the number of this thread, for its work space.
template <class Consume>
inline void update(const Network& network, const Batch& batch, const Batch& gradients, int share,
                   int n_shares, int thread, const Consume& consume) {
  for (int l = network.n_layers - 1; l >= 0; l--)
    update_layer(network, batch, gradients, l, share, n_shares, thread, consume);
}

}  // namespace gallop::ISA
