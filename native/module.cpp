// The Python module gallop._kernels: networks and gradient steps over NumPy arrays.
//
// All state lives in arrays that Python owns and hands over; what is allocated here is work space.
// Whatever takes long releases the GIL.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#ifdef HAVE_AMX
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "algorithms.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace gallop {

#ifdef HAVE_AMX
namespace amx { extern const Kernels kernels; }
#endif
#ifdef HAVE_AVX512BF16
namespace avx512bf16 { extern const Kernels kernels; }
#endif
#ifdef HAVE_AVX512
namespace avx512 { extern const Kernels kernels; }
#endif
#ifdef HAVE_AVX2
namespace avx2 { extern const Kernels kernels; }
#endif
namespace baseline { extern const Kernels kernels; }

namespace {

using Floats = nb::ndarray<float, nb::numpy, nb::c_contig, nb::device::cpu>;
using ConstFloats = nb::ndarray<const float, nb::numpy, nb::c_contig, nb::device::cpu>;
using Indices = nb::ndarray<const std::int64_t, nb::numpy, nb::c_contig, nb::device::cpu>;
using Rows = nb::ndarray<const std::int32_t, nb::numpy, nb::c_contig, nb::device::cpu>;

#ifdef HAVE_AMX
// Whether there are tiles for bfloat16, and Linux lets this process use them: it must be asked once
// (Documentation/arch/x86/xstate.rst), since they make every thread's saved state larger.
bool may_use_tiles() {
#ifdef EMULATE_AMX
  return true;
#else
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned AMX_BF16 = 1u << 22, AMX_TILE = 1u << 24;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & AMX_BF16) || !(d & AMX_TILE)) return false;
  constexpr long REQUEST_PERMISSION = 0x1023, TILE_DATA = 18;
  static const bool granted = syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
  return granted;
#endif
}
#endif

// Instruction sets of this build that this processor has, the best first.
std::vector<const Kernels*> available() {
  std::vector<const Kernels*> found;
#ifdef HAVE_AVX512
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw")) {
#ifdef HAVE_AVX512BF16
    if (__builtin_cpu_supports("avx512bf16")) {
#ifdef HAVE_AMX
      if (may_use_tiles()) found.push_back(&amx::kernels);
#endif
      found.push_back(&avx512bf16::kernels);
    }
#endif
    found.push_back(&avx512::kernels);
  }
#endif
#ifdef HAVE_AVX2
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    found.push_back(&avx2::kernels);
#endif
  found.push_back(&baseline::kernels);
  return found;
}

void require(bool holds, const std::string& message) {
  if (!holds) throw std::invalid_argument(message);
}

// Work space: zeroed, on cache lines, each array shifted by an odd number of lines against the one
// before, because streams that are equal modulo 4096 hold each other up.
class Memory {
 public:
  Memory() = default;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  float* floats(std::ptrdiff_t n) {
    constexpr std::size_t LINE = 64, SHIFT = 17 * LINE;
    const std::size_t bytes = (static_cast<std::size_t>(n) * sizeof(float) + LINE - 1) / LINE * LINE;
    const std::size_t total = bytes + SHIFT * (pieces_.size() % 3 + 1);
    void* piece = std::aligned_alloc(LINE, (total + LINE - 1) / LINE * LINE);
    if (piece == nullptr) throw std::bad_alloc();
    pieces_.emplace_back(piece);
    std::memset(piece, 0, total);
    return reinterpret_cast<float*>(static_cast<char*>(piece) + total - bytes);
  }

 private:
  struct Free {
    void operator()(void* piece) const { std::free(piece); }
  };
  std::vector<std::unique_ptr<void, Free>> pieces_;
};

// An instruction set and the threads that use it. One call at a time.
struct Engine {
  const Kernels* kernels;
  Team team;
  std::mutex busy;

  Engine(const std::string& instruction_set, int n_threads)
      : kernels(find(instruction_set)), team(std::clamp(n_threads, 1, 64)) {}

  static const Kernels* find(const std::string& name) {
    std::string known;
    for (const Kernels* each : available()) {
      if (name == each->name) return each;
      known += std::string(known.empty() ? "" : ", ") + each->name;
    }
    throw std::invalid_argument(name + ": no such instruction set here; there are " + known);
  }
};

Precision precision_of(const std::string& name, const Kernels& kernels) {
  if (name == "float32") return Precision::float32;
  require(name == "bf16" || name == "bf16x3",
          name + ": the precisions are float32, bf16x3 and bf16");
  require(kernels.bf16, name + " needs AVX512-BF16 or AMX, which " + kernels.name + " has not");
  return name == "bf16" ? Precision::bf16 : Precision::bf16x3;
}

Activation activation_of(const std::string& name) {
  if (name == "relu") return Activation::relu;
  if (name == "tanh") return Activation::tanh;
  require(name == "none", name + ": the activations are relu, tanh and none");
  return Activation::none;
}

// A network over the caller's arrays.
struct Mlp {
  std::shared_ptr<Engine> engine;
  Network network{};
  std::vector<Floats> arrays;  // kept alive
  Memory memory;
  Batch acting{};  // work space of forward()
  int acting_rows = 0;

  Mlp(std::shared_ptr<Engine> engine_, const std::vector<int>& widths, const std::string& hidden,
      const std::string& last, const std::string& precision, bool has_target)
      : engine(std::move(engine_)) {
    require(widths.size() >= 2 && widths.size() <= MAX_LAYERS + 1,
            "a network has 1 to " + std::to_string(MAX_LAYERS) + " layers");
    require(*std::min_element(widths.begin(), widths.end()) >= 1, "a width is at least 1");
    network.n_layers = static_cast<int>(widths.size()) - 1;
    require(engine != nullptr, "there is no engine");
    network.precision = precision_of(precision, *engine->kernels);
    const Activation of_hidden = activation_of(hidden), of_last = activation_of(last);
    std::ptrdiff_t at = 0;
    for (int l = 0; l < network.n_layers; l++) {
      const bool is_last = l == network.n_layers - 1;
      Layer& layer = network.layers[l];
      layer = {widths[l],  widths[l + 1], is_last ? of_last : of_hidden,
               is_last && widths[l + 1] == 1, at, 0};
      at += layer.weight_floats();
      layer.biases = at;
      at += panel_floats(1, layer.outputs);
      if (network.fast(l)) {
        const auto pairs = panel_floats((layer.inputs + 1) / 2, layer.outputs);
        for (int part = 0; part < network.parts(); part++) {
          network.pairs[l][part] = memory.floats(pairs);
          if (has_target) network.target_pairs[l][part] = memory.floats(pairs);
          network.transposed_pairs[l][part] =
              memory.floats(panel_floats((layer.outputs + 1) / 2, layer.inputs));
        }
      } else if (!layer.single) {
        network.transposed[l] = memory.floats(panel_floats(layer.outputs, layer.inputs));
      }
    }
    network.size = at;
  }

  // Arrays of `size` floats each; the moments and the target only where something learns.
  void use(Floats parameters, std::optional<Floats> first, std::optional<Floats> second,
           std::optional<Floats> target) {
    arrays.clear();
    network.parameters = adopt(parameters);
    network.first_moment = first ? adopt(*first) : nullptr;
    network.second_moment = second ? adopt(*second) : nullptr;
    network.target = target ? adopt(*target) : nullptr;
    for (int l = 0; l < network.n_layers; l++)
      require(!target || !network.fast(l) || network.target_pairs[l][0] != nullptr,
              "the network was made without a target");
    engine->kernels->refresh(network);
  }

  float* adopt(Floats array) {
    require(static_cast<std::ptrdiff_t>(array.size()) == network.size,
            "the array has " + std::to_string(array.size()) + " floats, the network " +
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
            "the network takes [n, " + std::to_string(network.inputs()) + "] inputs");
    const int rows = static_cast<int>(x.shape(0)), outputs = network.outputs();
    auto* out = new float[static_cast<std::size_t>(rows) * outputs];
    nb::capsule owner(out, [](void* p) noexcept { delete[] static_cast<float*>(p); });
    {
      nb::gil_scoped_release released;
      const std::lock_guard lock(engine->busy);
      if (rows > acting_rows) {
        acting = make_batch(memory, *engine, network, rows, true, false);
        acting_rows = rows;
      }
      acting.rows = rows;
      for (int row = 0; row < rows; row++)
        for (int i = 0; i < network.inputs(); i++)
          acting.input[element(rows, row, i)] = x.data()[row * network.inputs() + i];
      engine->kernels->forward(network, network.parameters, acting);
      for (int row = 0; row < rows; row++)
        for (int i = 0; i < outputs; i++)
          out[row * outputs + i] = acting.output(network, row, i);
    }
    return {out, {static_cast<std::size_t>(rows), static_cast<std::size_t>(outputs)}, owner};
  }

  // `pairs`: weight gradients will be wanted of this batch. For a batch of gradients, the numbers
  // of a fast layer itself are rounded; for one of activations, those that it takes.
  static Batch make_batch(Memory& memory, const Engine& engine, const Network& network, int rows,
                          bool with_input, bool pairs = true) {
    Batch batch{};
    batch.rows = rows;
    std::ptrdiff_t at = 0;
    std::ptrdiff_t offsets[MAX_LAYERS];
    const auto take = [&](int columns, bool single) {
      const std::ptrdiff_t here = at;
      // 17 lines more, so that no two layers are equal modulo 4096.
      at += (single ? panel_floats(1, rows) : panel_floats(rows, columns)) + 17 * 16;
      return here;
    };
    const std::ptrdiff_t input = with_input ? take(network.inputs(), false) : 0;
    for (int l = 0; l < network.n_layers; l++)
      offsets[l] = take(network.layers[l].outputs, network.layers[l].single);
    batch.memory = memory.floats(at);
    batch.size = at;
    if (with_input) batch.input = batch.memory + input;
    for (int l = 0; l < network.n_layers; l++) {
      batch.layer[l] = batch.memory + offsets[l];
      if (!network.fast(l) && !network.fast(l + 1)) continue;
      const int columns = network.layers[l].outputs;
      for (int part = 0; part < network.parts(); part++) {
        batch.rounded[l][part] =
            memory.floats(static_cast<std::ptrdiff_t>(rows) * panels(columns) * HALF_PANEL);
        if (!pairs) continue;
        batch.rounded_pairs[l][part] = memory.floats(panel_floats((rows + 1) / 2, columns));
        if (engine.kernels->tiles)
          batch.rounded_columns[l][part] =
              memory.floats(static_cast<std::ptrdiff_t>(columns) * panels(rows) * HALF_PANEL);
      }
    }
    return batch;
  }
};

// Adam's settings; the number of steps done is an argument of every call.
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

  std::vector<Adam> from(double learning_rate, std::int64_t done, int n) const {
    std::vector<Adam> all;
    for (int i = 1; i <= n; i++) all.push_back(at(learning_rate, done + i));
    return all;
  }
};

Normalization normalization_of(const std::optional<ConstFloats>& mean,
                               const std::optional<ConstFloats>& scale, float clip,
                               float reward_scale, float reward_clip, int n) {
  require(mean.has_value() == scale.has_value(), "mean and scale come together");
  if (mean)
    require(static_cast<int>(mean->size()) == n && static_cast<int>(scale->size()) == n,
            "mean and scale have one entry an observation");
  return {mean ? mean->data() : nullptr, scale ? scale->data() : nullptr, clip, reward_scale,
          reward_clip};
}

// What SacLearner and Td3Learner share.
template <class Algorithm>
struct OffPolicy {
  std::shared_ptr<Engine> engine;
  std::shared_ptr<Mlp> actor;
  std::vector<std::shared_ptr<Mlp>> critics;
  Algorithm algorithm{};
  AdamSettings adam{};
  Replay replay{};
  std::vector<ConstFloats> arrays;  // the replay buffer's, kept alive
  std::optional<Rows> following;
  std::int64_t n_rows = 0, n_observation_rows = 0;
  Memory memory;

  void set_up(std::shared_ptr<Mlp> actor_, std::vector<std::shared_ptr<Mlp>> critics_, int batch,
              int n_actions, float gamma, float tau, AdamSettings adam_) {
    actor = std::move(actor_);
    critics = std::move(critics_);
    adam = adam_;
    engine = actor->engine;
    Algorithm& s = algorithm;
    require(batch >= 1, "a batch has at least one row");
    require(!critics.empty() && critics.size() <= MAX_CRITICS,
            "there are 1 to " + std::to_string(MAX_CRITICS) + " critics");
    s.batch = batch;
    s.n_observations = actor->network.inputs();
    s.n_actions = n_actions;
    s.n_critics = static_cast<int>(critics.size());
    s.gamma = gamma;
    s.tau = tau;
    const int n_inputs = s.n_observations + n_actions;
    check(actor->network);
    s.actor_now = Mlp::make_batch(memory, *engine, actor->network, batch, true);
    s.actor_next = Mlp::make_batch(memory, *engine, actor->network, batch, true, false);
    s.actor_gradients = Mlp::make_batch(memory, *engine, actor->network, batch, false);
    for (int i = 0; i < s.n_critics; i++) {
      const Network& critic = critics[i]->network;
      check(critic);
      require(critic.inputs() == n_inputs && critic.outputs() == 1 && critic.target != nullptr,
              "a critic takes observation and action, gives one value, and has a target");
      require(critics[i]->engine == engine, "all networks run on one engine");
      s.critic[i] = Mlp::make_batch(memory, *engine, critic, batch, false);
      s.critic_gradients[i] = Mlp::make_batch(memory, *engine, critic, batch, true);
      s.q_target[i] = memory.floats(batch);
      s.q[i] = memory.floats(batch);
      s.q_policy[i] = memory.floats(batch);
    }
    for (float** input : {&s.input_data, &s.input_policy, &s.input_next})
      *input = memory.floats(panel_floats(batch, n_inputs));
    s.rewards = memory.floats(batch);
    s.ends = memory.floats(batch);
  }

  static void check(const Network& network) {
    require(network.parameters != nullptr && network.first_moment != nullptr &&
                network.second_moment != nullptr,
            "a network that learns has parameters and both moments");
  }

  void use_replay(ConstFloats observations, Rows following_, ConstFloats actions,
                  ConstFloats rewards, ConstFloats ends) {
    const auto rows = static_cast<std::int64_t>(rewards.size());
    const auto holds = [&](const auto& array, int columns) {
      require(static_cast<std::int64_t>(array.size()) == rows * columns,
              "the replay buffer's arrays have " + std::to_string(rows) + " rows each");
    };
    holds(following_, 1);
    holds(actions, algorithm.n_actions);
    holds(ends, 1);
    const auto n = static_cast<std::int64_t>(observations.size());
    require(n % algorithm.n_observations == 0 && n >= rows * algorithm.n_observations,
            "observations have " + std::to_string(algorithm.n_observations) +
                " columns, and a row for every transition");
    arrays = {observations, actions, rewards, ends};
    following = following_;
    n_rows = rows;
    n_observation_rows = n / algorithm.n_observations;
    replay = {observations.data(), following_.data(), actions.data(), rewards.data(),
              ends.data(), {}};
  }

  // The arrays' addresses may be new: whoever loads a state assigns, and the networks follow.
  void follow_networks() {
    algorithm.actor = actor->network;
    for (int i = 0; i < algorithm.n_critics; i++) algorithm.critics[i] = critics[i]->network;
  }

  void check(Indices indices, const ConstFloats& noise, int n, int noise_arrays) const {
    require(n_rows > 0, "there is no replay buffer yet");
    require(indices.ndim() == 2 && static_cast<int>(indices.shape(1)) == algorithm.batch,
            "indices are [gradient steps, " + std::to_string(algorithm.batch) + "]");
    require(static_cast<std::ptrdiff_t>(noise.size()) ==
                static_cast<std::ptrdiff_t>(n) * noise_arrays * algorithm.batch *
                    algorithm.n_actions,
            "the noise does not fit the batches");
    for (std::size_t i = 0; i < indices.size(); i++) {
      const std::int64_t row = indices.data()[i];
      if (row < 0 || row >= n_rows)
        throw std::out_of_range("index " + std::to_string(row) + " is not in the replay buffer");
      if (replay.following[row] < 0 || replay.following[row] >= n_observation_rows)
        throw std::out_of_range("what follows transition " + std::to_string(row) +
                                " is not in the replay buffer");
    }
  }
};

template <std::size_t N>
nb::ndarray<nb::numpy, double> rows_of(std::vector<double>&& values) {
  auto* kept = new std::vector<double>(std::move(values));
  nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<std::vector<double>*>(p); });
  return {kept->data(), {kept->size() / N, N}, owner};
}

struct SacLearner : OffPolicy<Sac> {
  Floats entropy;

  SacLearner(std::shared_ptr<Mlp> actor_, std::vector<std::shared_ptr<Mlp>> critics_, int batch,
             float gamma, float tau, Floats entropy_, bool learn_entropy, float target_entropy,
             double beta1, double beta2, double epsilon, double weight_decay)
      : entropy(entropy_) {
    require(actor_->network.outputs() % 2 == 0 && entropy_.size() == 3,
            "SAC's actor gives a mean and a log_std for each action; the entropy coefficient has "
            "three numbers");
    const int n_actions = actor_->network.outputs() / 2;
    set_up(std::move(actor_), std::move(critics_), batch, n_actions, gamma, tau,
           {beta1, beta2, epsilon, weight_decay});
    Sac& s = algorithm;
    s.entropy = entropy.data();
    s.learn_entropy = learn_entropy;
    s.target_entropy = target_entropy;
    const auto n = panel_floats(1, batch * n_actions);
    for (GaussianSample* g : {&s.now, &s.next}) {
      for (float** array : {&g->noise, &g->mean, &g->log_std, &g->std, &g->action, &g->slope, &g->density})
        *array = memory.floats(n);
      g->log_prob = memory.floats(batch);
    }
  }

  nb::ndarray<nb::numpy, double> step(Indices indices, ConstFloats noise, double learning_rate,
                                      std::int64_t n_done, int target_update_interval, int n_before,
                                      std::optional<ConstFloats> mean,
                                      std::optional<ConstFloats> scale, float clip,
                                      float reward_scale, float reward_clip) {
    const int n = static_cast<int>(indices.shape(0));
    check(indices, noise, n, 2);
    replay.normalization = normalization_of(mean, scale, clip, reward_scale, reward_clip,
                                            algorithm.n_observations);
    std::vector<SacLosses> losses(n);
    {
      nb::gil_scoped_release released;
      const std::lock_guard lock(engine->busy);
      follow_networks();
      const auto adams = adam.from(learning_rate, n_done, n);
      // The entropy coefficient's Adam is torch's own, whatever the networks' is.
      const auto plain = AdamSettings{0.9, 0.999, 1e-8, 0}.from(learning_rate, n_done, n);
      const auto follows = std::make_unique<bool[]>(n);
      for (int i = 0; i < n; i++) follows[i] = (n_before + i) % target_update_interval == 0;
      const Steps steps{n,           indices.data(), noise.data(),  adams.data(),
                        adams.data(), plain.data(),   follows.get()};
      engine->kernels->sac(algorithm, replay, steps, engine->team, losses.data());
    }
    std::vector<double> rows;
    for (const SacLosses& each : losses)
      rows.insert(rows.end(), {each.actor, each.critic, each.entropy_coefficient,
                               each.entropy_coefficient_loss});
    return rows_of<4>(std::move(rows));
  }
};

struct Td3Learner : OffPolicy<Td3> {
  Td3Learner(std::shared_ptr<Mlp> actor_, std::vector<std::shared_ptr<Mlp>> critics_, int batch,
             float gamma, float tau, float target_noise, float target_noise_clip, double beta1,
             double beta2, double epsilon, double weight_decay) {
    require(actor_->network.target != nullptr, "TD3's actor has a target");
    const int n_actions = actor_->network.outputs();
    set_up(std::move(actor_), std::move(critics_), batch, n_actions, gamma, tau,
           {beta1, beta2, epsilon, weight_decay});
    algorithm.target_noise = target_noise;
    algorithm.target_noise_clip = target_noise_clip;
  }

  nb::ndarray<nb::numpy, double> step(Indices indices, ConstFloats noise, double learning_rate,
                                      std::int64_t n_done, int policy_delay,
                                      std::optional<ConstFloats> mean,
                                      std::optional<ConstFloats> scale, float clip,
                                      float reward_scale, float reward_clip) {
    const int n = static_cast<int>(indices.shape(0));
    check(indices, noise, n, 1);
    replay.normalization = normalization_of(mean, scale, clip, reward_scale, reward_clip,
                                            algorithm.n_observations);
    std::vector<Td3Losses> losses(n);
    {
      nb::gil_scoped_release released;
      const std::lock_guard lock(engine->busy);
      follow_networks();
      const auto critic = adam.from(learning_rate, n_done, n);
      std::vector<Adam> slow;  // the actor has learnt only every policy_delay steps
      const auto delayed = std::make_unique<bool[]>(n);
      for (int i = 0; i < n; i++) {
        const std::int64_t step = n_done + i + 1;
        delayed[i] = step % policy_delay == 0;
        slow.push_back(adam.at(learning_rate, std::max<std::int64_t>(1, step / policy_delay)));
      }
      const Steps steps{n,           indices.data(), noise.data(),  slow.data(),
                        critic.data(), nullptr,        delayed.get()};
      engine->kernels->td3(algorithm, replay, steps, engine->team, losses.data());
    }
    std::vector<double> rows;
    for (int i = 0; i < n; i++)
      rows.insert(rows.end(), {(n_done + i + 1) % policy_delay == 0 ? losses[i].actor : std::nan(""),
                               losses[i].critic});
    return rows_of<2>(std::move(rows));
  }
};

struct PpoLearner {
  std::shared_ptr<Mlp> policy, value;
  Floats log_std, log_std_first, log_std_second;
  Ppo ppo{};
  AdamSettings adam;
  Memory memory;

  PpoLearner(std::shared_ptr<Mlp> policy_, std::shared_ptr<Mlp> value_, bool discrete,
             Floats log_std_, Floats first, Floats second, int batch, bool normalize_advantage,
             float entropy_weight, float value_weight, float max_gradient_norm, double target_kl,
             double beta1, double beta2, double epsilon, double weight_decay)
      : policy(std::move(policy_)),
        value(std::move(value_)),
        log_std(log_std_),
        log_std_first(first),
        log_std_second(second),
        adam{beta1, beta2, epsilon, weight_decay} {
    require(batch >= 1, "a batch has at least one row");
    require(policy->engine == value->engine, "all networks run on one engine");
    require(policy->network.inputs() == value->network.inputs() && value->network.outputs() == 1,
            "the value function takes the policy's observations and gives one value");
    const int n = policy->network.outputs();
    const auto padded = static_cast<std::size_t>(panel_floats(1, n));
    require(log_std.size() == padded && first.size() == padded && second.size() == padded,
            "log_std and its moments are padded to " + std::to_string(padded));
    OffPolicy<Sac>::check(policy->network);
    OffPolicy<Sac>::check(value->network);
    ppo.batch = batch;
    ppo.n_observations = policy->network.inputs();
    ppo.n_actions = n;
    ppo.discrete = discrete;
    ppo.normalize_advantage = normalize_advantage;
    ppo.entropy_weight = entropy_weight;
    ppo.value_weight = value_weight;
    ppo.max_gradient_norm = max_gradient_norm;
    ppo.target_kl = target_kl;
    ppo.policy_batch = Mlp::make_batch(memory, *policy->engine, policy->network, batch, true);
    ppo.value_batch = Mlp::make_batch(memory, *policy->engine, value->network, batch, true);
    ppo.policy_gradients = Mlp::make_batch(memory, *policy->engine, policy->network, batch, false);
    ppo.value_gradients = Mlp::make_batch(memory, *policy->engine, value->network, batch, false);
    ppo.policy_gradient = memory.floats(policy->network.size);
    ppo.value_gradient = memory.floats(value->network.size);
    ppo.log_std_gradient = memory.floats(panel_floats(1, n));
    ppo.advantages = memory.floats(batch);
  }

  // One epoch. Losses of every minibatch, and how many of them changed the networks.
  std::tuple<nb::ndarray<nb::numpy, double>, int> epoch(
      Indices indices, ConstFloats observations, ConstFloats actions, ConstFloats values,
      ConstFloats log_probs, ConstFloats advantages, ConstFloats returns, double learning_rate,
      std::int64_t n_done, float clip_range, float clip_range_value) {
    const auto rows = static_cast<std::int64_t>(values.size());
    const auto holds = [&](const ConstFloats& array, int columns) {
      require(static_cast<std::int64_t>(array.size()) == rows * columns,
              "the rollout's arrays have " + std::to_string(rows) + " rows each");
    };
    holds(observations, ppo.n_observations);
    holds(actions, ppo.discrete ? 1 : ppo.n_actions);
    for (const auto* array : {&log_probs, &advantages, &returns}) holds(*array, 1);
    for (std::size_t i = 0; i < indices.size(); i++) {
      const std::int64_t row = indices.data()[i];
      if (row < 0 || row >= rows)
        throw std::out_of_range("index " + std::to_string(row) + " is not in the rollout");
      if (ppo.discrete) {
        const float action = actions.data()[row];
        require(action >= 0 && action < static_cast<float>(ppo.n_actions),
                "an action is not one of the choices");
      }
    }
    const int n = static_cast<int>(indices.size()), n_batches = (n + ppo.batch - 1) / ppo.batch;
    std::vector<PpoLosses> losses(n_batches);
    int n_learnt = 0;
    {
      nb::gil_scoped_release released;
      Engine& engine = *policy->engine;
      const std::lock_guard lock(engine.busy);
      ppo.policy = policy->network;
      ppo.value = value->network;
      ppo.log_std = {log_std.data(), log_std_first.data(), log_std_second.data(), nullptr};
      ppo.clip_range = clip_range;
      ppo.clip_range_value = clip_range_value;
      const Rollout rollout{observations.data(), actions.data(),    values.data(),
                            log_probs.data(),    advantages.data(), returns.data()};
      const auto adams = adam.from(learning_rate, n_done, n_batches);
      n_learnt = engine.kernels->ppo(ppo, rollout, indices.data(), n, adams.data(), engine.team,
                                     losses.data());
    }
    losses.resize(std::min(n_learnt + 1, n_batches));  // that which went too far was looked at too
    std::vector<double> table;
    for (const PpoLosses& l : losses)
      table.insert(table.end(),
                   {l.policy, l.value, l.entropy, l.clip_fraction, l.approximate_kl, l.total});
    return {rows_of<6>(std::move(table)), n_learnt};
  }
};

// Generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438), [n_steps, n_envs]:
// starts is 1 where an episode begins, so that nothing flows back across it.
nb::ndarray<nb::numpy, float> advantages(ConstFloats rewards, ConstFloats values,
                                         ConstFloats starts, ConstFloats last_values,
                                         ConstFloats last_starts, float gamma, float gae_lambda) {
  require(rewards.ndim() == 2, "rewards are [steps, environments]");
  const auto n_steps = static_cast<std::ptrdiff_t>(rewards.shape(0));
  const auto n_envs = static_cast<std::ptrdiff_t>(rewards.shape(1));
  require(values.size() == rewards.size() && starts.size() == rewards.size() &&
              static_cast<std::ptrdiff_t>(last_values.size()) == n_envs &&
              static_cast<std::ptrdiff_t>(last_starts.size()) == n_envs,
          "values and starts have the shape of rewards, the last ones have one entry each");
  auto* out = new float[rewards.size()];
  nb::capsule owner(out, [](void* p) noexcept { delete[] static_cast<float*>(p); });
  for (std::ptrdiff_t env = 0; env < n_envs; env++) {
    float advantage = 0, next_value = last_values.data()[env];
    float goes_on = 1 - last_starts.data()[env];
    for (std::ptrdiff_t step = n_steps - 1; step >= 0; step--) {
      const std::ptrdiff_t at = step * n_envs + env;
      const float value = values.data()[at];
      const float error = rewards.data()[at] + gamma * next_value * goes_on - value;
      advantage = error + gamma * gae_lambda * goes_on * advantage;
      out[at] = advantage;
      next_value = value;
      goes_on = 1 - starts.data()[at];
    }
  }
  return {out, {rewards.shape(0), rewards.shape(1)}, owner};
}

// FLOP a second that every thread of the engine reaches at best, added up.
double peak(Engine& engine, double seconds) {
  nb::gil_scoped_release released;
  const std::lock_guard lock(engine.busy);
  struct Job {
    const Kernels* kernels;
    double seconds;
    double rate[64];
  } job{engine.kernels, seconds, {}};
  engine.team.run(
      [](void* context, int thread) {
        using Clock = std::chrono::steady_clock;
        Job& j = *static_cast<Job*>(context);
        float sink[16] = {0.5f};
        double flop = 0, elapsed = 0;
        const auto start = Clock::now();
        while (elapsed < j.seconds) {
          sink[0] = 0.5f;
          flop += j.kernels->peak(20000, sink);
          elapsed = std::chrono::duration<double>(Clock::now() - start).count();
        }
        j.rate[thread] = flop / elapsed;
      },
      &job);
  double total = 0;
  for (const double rate : job.rate) total += rate;
  return total;
}

}  // namespace
}  // namespace gallop

NB_MODULE(_kernels, m) {
  using namespace gallop;
  m.attr("PANEL") = PANEL;
  m.def("instruction_sets", [] {
    std::vector<std::string> names;
    for (const Kernels* each : available()) names.emplace_back(each->name);
    return names;
  });
  m.def("has_bf16", [] { return available().front()->bf16; });
  m.def("advantages", &advantages, "rewards"_a, "values"_a, "starts"_a, "last_values"_a,
        "last_starts"_a, "gamma"_a, "gae_lambda"_a);
  m.def("peak", &peak, "engine"_a, "seconds"_a);

  nb::class_<Engine>(m, "Engine")
      .def(nb::init<const std::string&, int>(), "instruction_set"_a, "n_threads"_a)
      .def_prop_ro("instruction_set", [](const Engine& e) { return std::string(e.kernels->name); })
      .def_prop_ro("n_threads", [](const Engine& e) { return e.team.n_threads(); });

  nb::class_<Mlp>(m, "Mlp")
      .def(nb::init<std::shared_ptr<Engine>, const std::vector<int>&, const std::string&,
                    const std::string&, const std::string&, bool>(),
           "engine"_a, "widths"_a, "hidden"_a, "last"_a, "precision"_a = "float32",
           "has_target"_a = true)
      .def("use", &Mlp::use, "parameters"_a, "first_moment"_a.none(), "second_moment"_a.none(),
           "target"_a.none())
      .def("refresh", &Mlp::refresh)
      .def("forward", &Mlp::forward, "x"_a)
      .def_prop_ro("layout", &Mlp::layout)
      .def_prop_ro("size", [](const Mlp& mlp) { return mlp.network.size; });

  const auto off_policy = [](auto& c) {
    using T = typename std::remove_reference_t<decltype(c)>::Type;
    c.def("use_replay", &T::use_replay, "observations"_a, "following"_a, "actions"_a,
          "rewards"_a, "ends"_a);
  };
  auto sac = nb::class_<SacLearner>(m, "Sac");
  sac.def(nb::init<std::shared_ptr<Mlp>, std::vector<std::shared_ptr<Mlp>>, int, float, float,
                   Floats, bool, float, double, double, double, double>(),
          "actor"_a, "critics"_a, "batch"_a, "gamma"_a, "tau"_a, "entropy"_a, "learn_entropy"_a,
          "target_entropy"_a, "beta1"_a, "beta2"_a, "epsilon"_a, "weight_decay"_a)
      .def("step", &SacLearner::step, "indices"_a, "noise"_a, "learning_rate"_a, "n_done"_a,
           "target_update_interval"_a = 1, "n_before"_a = 0, "mean"_a.none() = nb::none(),
           "scale"_a.none() = nb::none(), "clip"_a = 0.0f, "reward_scale"_a = 0.0f,
           "reward_clip"_a = 0.0f);
  off_policy(sac);
  auto td3 = nb::class_<Td3Learner>(m, "Td3");
  td3.def(nb::init<std::shared_ptr<Mlp>, std::vector<std::shared_ptr<Mlp>>, int, float, float,
                   float, float, double, double, double, double>(),
          "actor"_a, "critics"_a, "batch"_a, "gamma"_a, "tau"_a, "target_noise"_a,
          "target_noise_clip"_a, "beta1"_a, "beta2"_a, "epsilon"_a, "weight_decay"_a)
      .def("step", &Td3Learner::step, "indices"_a, "noise"_a, "learning_rate"_a, "n_done"_a,
           "policy_delay"_a = 2, "mean"_a.none() = nb::none(), "scale"_a.none() = nb::none(),
           "clip"_a = 0.0f, "reward_scale"_a = 0.0f, "reward_clip"_a = 0.0f);
  off_policy(td3);
  nb::class_<PpoLearner>(m, "Ppo")
      .def(nb::init<std::shared_ptr<Mlp>, std::shared_ptr<Mlp>, bool, Floats, Floats, Floats, int,
                    bool, float, float, float, double, double, double, double, double>(),
           "policy"_a, "value"_a, "discrete"_a, "log_std"_a, "log_std_first"_a,
           "log_std_second"_a, "batch"_a, "normalize_advantage"_a, "entropy_weight"_a,
           "value_weight"_a, "max_gradient_norm"_a, "target_kl"_a, "beta1"_a, "beta2"_a,
           "epsilon"_a, "weight_decay"_a)
      .def("epoch", &PpoLearner::epoch, "indices"_a, "observations"_a, "actions"_a, "values"_a,
           "log_probs"_a, "advantages"_a, "returns"_a, "learning_rate"_a, "n_done"_a,
           "clip_range"_a, "clip_range_value"_a = 0.0f);
}
