// What the learners of all algorithms share.
#pragma once

#include <cmath>

#include "mlp.hpp"

namespace gallop {

// Where training stands when a call begins.
struct Progress {
  double learning_rate;
  std::int64_t n_done;  // gradient steps
};

struct AdamSettings {
  double beta1, beta2, epsilon, weight_decay;

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

  // The next n steps.
  std::vector<Adam> from(const Progress& progress, int n) const {
    std::vector<Adam> all;
    for (int i = 1; i <= n; i++) all.push_back(at(progress.learning_rate, progress.n_done + i));
    return all;
  }
};

inline void require_moments(const Network& network) {
  require(network.parameters != nullptr && network.first_moment != nullptr &&
              network.second_moment != nullptr,
          "a network that learns has parameters and both moments");
}

// Losses for Python: [rows, N].
template <std::size_t N>
nb::ndarray<nb::numpy, double> rows_of(std::vector<double>&& values) {
  auto* kept = new std::vector<double>(std::move(values));
  nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<std::vector<double>*>(p); });
  return {kept->data(), {kept->size() / N, N}, owner};
}

}  // namespace gallop
