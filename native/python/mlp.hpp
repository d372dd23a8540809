// Python's view of a network.
#pragma once

#include <cstddef>
#include <optional>
#include <tuple>

#include "engine.hpp"

namespace gallop {

inline Activation activation_of(const std::string& name) {
  if (name == "relu") return Activation::relu;
  if (name == "tanh") return Activation::tanh;
  require(name == "none", name + ": activation must be relu, tanh or none");
  return Activation::none;
}

struct MlpSettings {
  std::vector<int> widths;   // inputs, then outputs of every layer
  std::string hidden, last;  // activations
};

// Arrays of `size` floats each. Moments and target are only needed for learning.
struct MlpArrays {
  Floats parameters;
  std::optional<Floats> first_moment, second_moment, target;
};

// A network whose parameters are arrays of the caller.
struct Mlp {
  std::shared_ptr<Engine> engine;
  Network network{};
  std::vector<Floats> arrays;  // kept alive
  Memory memory;
  Batch acting{};  // work space of forward()
  int acting_rows = 0;

  Mlp(std::shared_ptr<Engine> engine_, const MlpSettings& settings) : engine(std::move(engine_)) {
    const std::vector<int>& widths = settings.widths;
    require(widths.size() >= 2 && widths.size() <= MAX_LAYERS + 1,
            "a network must have 1 to " + std::to_string(MAX_LAYERS) + " layers");
    require(*std::min_element(widths.begin(), widths.end()) >= 1, "a width must be at least 1");
    network.n_layers = static_cast<int>(widths.size()) - 1;
    require(engine != nullptr, "engine must not be None");
    network.sparse_below = engine->sparse_below;
    const Activation of_hidden = activation_of(settings.hidden),
                     of_last = activation_of(settings.last);
    std::ptrdiff_t at = 0;
    for (int l = 0; l < network.n_layers; l++) {
      const bool is_last = l == network.n_layers - 1;
      Layer& layer = network.layers[l];
      layer = {widths[l],
               widths[l + 1],
               is_last ? of_last : of_hidden,
               is_last && widths[l + 1] == 1,
               at,
               0};
      at += layer.weight_floats();
      layer.biases = at;
      at += panel_floats(1, layer.outputs);
      if (!layer.single)
        network.transposed[l] = memory.floats(panel_floats(layer.outputs, layer.inputs));
    }
    network.size = at;
  }

  void use(const MlpArrays& given) {
    arrays.clear();
    network.parameters = adopt(given.parameters);
    network.first_moment = given.first_moment ? adopt(*given.first_moment) : nullptr;
    network.second_moment = given.second_moment ? adopt(*given.second_moment) : nullptr;
    network.target = given.target ? adopt(*given.target) : nullptr;
    engine->kernels->refresh(network);
  }

  float* adopt(Floats array) {
    require(static_cast<std::ptrdiff_t>(array.size()) == network.size,
            "the array has " + std::to_string(array.size()) + " floats, the network needs " +
                std::to_string(network.size));
    arrays.push_back(array);
    return array.data();
  }

  void refresh() const {
    require(network.parameters != nullptr, "the network has no parameters yet");
    engine->kernels->refresh(network);
  }

  std::vector<std::tuple<int, int, std::ptrdiff_t, std::ptrdiff_t>> layout() const {
    std::vector<std::tuple<int, int, std::ptrdiff_t, std::ptrdiff_t>> all;
    for (int l = 0; l < network.n_layers; l++) {
      const Layer& layer = network.layers[l];
      all.emplace_back(layer.inputs, layer.outputs, layer.weights, layer.biases);
    }
    return all;
  }

  nb::ndarray<nb::numpy, float> forward(ConstFloats x) {
    require(network.parameters != nullptr, "the network has no parameters yet");
    require(x.ndim() == 2 && static_cast<int>(x.shape(1)) == network.inputs(),
            "the inputs must be [n, " + std::to_string(network.inputs()) + "]");
    const int rows = static_cast<int>(x.shape(0)), outputs = network.outputs();
    auto* out = new float[static_cast<std::size_t>(rows) * outputs];
    nb::capsule owner(out, [](void* p) noexcept { delete[] static_cast<float*>(p); });
    {
      nb::gil_scoped_release released;
      const Use use(*engine);
      if (rows > acting_rows) {
        acting = make_batch(memory, network, rows, {.input = true});
        acting_rows = rows;
      }
      acting.rows = rows;
      for (int row = 0; row < rows; row++)
        for (int i = 0; i < network.inputs(); i++)
          acting.input[element(rows, row, i)] = x.data()[row * network.inputs() + i];
      engine->kernels->forward(network, network.parameters, acting);
      for (int row = 0; row < rows; row++)
        for (int i = 0; i < outputs; i++) out[row * outputs + i] = acting.output(network, row, i);
    }
    return {out, {static_cast<std::size_t>(rows), static_cast<std::size_t>(outputs)}, owner};
  }

  // What a batch is for: whether it has an input of its own, and how many threads will compute
  // weight gradients from it.
  struct BatchUse {
    bool input = false;
    int update_threads = 0;
  };

  static Batch make_batch(Memory& memory, const Network& network, int rows, const BatchUse& use) {
    Batch batch{};
    batch.rows = rows;
    std::ptrdiff_t at = 0;
    std::ptrdiff_t offsets[MAX_LAYERS];
    const auto take = [&](int columns, bool single) {
      const std::ptrdiff_t here = at;
      // 17 more cache lines, so that no two layers have equal addresses modulo 4096.
      at += (single ? panel_floats(1, rows) : panel_floats(rows, columns)) + 17 * 16;
      return here;
    };
    const std::ptrdiff_t input = use.input ? take(network.inputs(), false) : 0;
    for (int l = 0; l < network.n_layers; l++)
      offsets[l] = take(network.layers[l].outputs, network.layers[l].single);
    batch.memory = memory.floats(at);
    batch.size = at;
    if (use.input) batch.input = batch.memory + input;
    for (int l = 0; l < network.n_layers; l++) {
      batch.layer[l] = batch.memory + offsets[l];
      if (network.sparse_input(l + 1) || network.sparse_gradient(l))
        batch.nonzeros[l] = make_nonzeros(memory, rows, network.layers[l].outputs);
    }
    if (use.update_threads > 0) batch.columns = memory.array<Nonzeros>(use.update_threads);
    for (int i = 0; i < use.update_threads; i++)
      batch.columns[i] = make_nonzeros(memory, PANEL, rows);
    return batch;
  }

  // Room for the numbers of a matrix [rows, columns] that are not zero. The kernels write whole
  // vectors, of up to 16 floats.
  static Nonzeros make_nonzeros(Memory& memory, int rows, int columns) {
    Nonzeros made{};
    made.n_blocks = (columns + SPARSE_BLOCK - 1) / SPARSE_BLOCK;
    made.capacity = panels(columns) * PANEL + 16;
    const std::ptrdiff_t n = static_cast<std::ptrdiff_t>(rows) * made.capacity;
    made.ends = memory.array<int>(static_cast<std::ptrdiff_t>(rows) * (made.n_blocks + 1));
    made.values = memory.floats(n);
    made.offsets = memory.array<int>(n);
    return made;
  }
};

}  // namespace gallop
