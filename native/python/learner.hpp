// Shared by the learners of all algorithms.
#pragma once

#include <cmath>

#include "mlp.hpp"

namespace gallop {

// The state of training at the beginning of a call.
struct Progress {
  double learning_rate;
  std::int64_t n_done;  // gradient steps so far
};

// Adam's settings, as in torch.optim.Adam.
struct AdamSettings {
  double beta1, beta2, epsilon, weight_decay;

  // Constants of gradient step number `step`, counted from 1.
  Adam at(double learning_rate, std::int64_t step) const {
    const double t = static_cast<double>(step);
    return {static_cast<float>(1 - beta1),
            static_cast<float>(1 - beta2),
            static_cast<float>(beta2),
            static_cast<float>(epsilon),
            static_cast<float>(learning_rate / (1 - std::pow(beta1, t))),
            static_cast<float>(1 / std::sqrt(1 - std::pow(beta2, t))),
            static_cast<float>(weight_decay)};
  }

  // Constants of the next n gradient steps.
  std::vector<Adam> from(const Progress& progress, int n) const {
    std::vector<Adam> all;
    for (int i = 1; i <= n; i++) all.push_back(at(progress.learning_rate, progress.n_done + i));
    return all;
  }
};

inline void require_moments(const Network& network) {
  require(network.parameters != nullptr && network.first_moment != nullptr &&
              network.second_moment != nullptr,
          "a network that learns needs parameters and both moments");
}

// Hands losses to Python: [rows, N].
template <std::size_t N>
nb::ndarray<nb::numpy, double> rows_of(std::vector<double>&& values) {
  auto* kept = new std::vector<double>(std::move(values));
  nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<std::vector<double>*>(p); });
  return {kept->data(), {kept->size() / N, N}, owner};
}

}  // namespace gallop
