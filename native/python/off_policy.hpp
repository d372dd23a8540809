// Python's view of SAC and TD3: classes that check their arguments and call the kernels.
#pragma once

#include "learner.hpp"

namespace gallop {

// How a learner normalises observations and rewards from the replay buffer.
struct Normalizer {
  std::optional<ConstFloats> mean, scale;
  float clip, reward_scale, reward_clip;

  Normalization of(int n_observations) const {
    require(mean.has_value() == scale.has_value(), "mean and scale must be given together");
    const auto n = static_cast<std::size_t>(n_observations);
    if (mean)
      require(mean->size() == n && scale->size() == n,
              "mean and scale must have one entry per observation dimension");
    return {mean ? mean->data() : nullptr, scale ? scale->data() : nullptr, clip, reward_scale,
            reward_clip};
  }
};

// The arrays of a replay buffer; see Replay.
struct ReplayArrays {
  ConstFloats observations;
  Rows following;
  ConstFloats actions, rewards;
  Flags ends;
};

struct ActorCriticNetworks {
  std::shared_ptr<Mlp> actor;
  std::vector<std::shared_ptr<Mlp>> critics;
};

// The data of one call of step(): [gradient steps, batch] rows of the replay buffer, and standard
// normal noise for each row.
struct Batches {
  Indices indices;
  ConstFloats noise;

  int n() const { return static_cast<int>(indices.shape(0)); }
};

// Gradient steps that have begun: what the threads read and write until they are done.
template <class Algorithm, class Losses>
struct BegunSteps {
  Batches batches;
  Normalizer normalizer;
  std::vector<Adam> actor, critic, entropy;
  std::unique_ptr<bool[]> delayed;
  std::vector<Losses> losses;
  std::optional<OffPolicyJob<Algorithm, Losses>> job;
};

// Shared by SacLearner and Td3Learner.
template <class Algorithm, class Losses>
struct OffPolicy {
  using Begun = BegunSteps<Algorithm, Losses>;
  std::shared_ptr<Engine> engine;
  std::shared_ptr<Mlp> actor;
  std::vector<std::shared_ptr<Mlp>> critics;
  Algorithm algorithm{};
  AdamSettings adam{};
  Replay replay{};
  std::optional<ReplayArrays> arrays;  // kept alive
  std::int64_t n_rows = 0, n_observation_rows = 0;
  Memory memory;
  std::unique_ptr<Begun> begun;

  OffPolicy() = default;
  OffPolicy(const OffPolicy&) = delete;
  OffPolicy& operator=(const OffPolicy&) = delete;

  void set_up(const ActorCriticNetworks& networks, int n_actions,
              const ActorCriticSettings& settings, const AdamSettings& adam_) {
    actor = networks.actor;
    critics = networks.critics;
    adam = adam_;
    engine = actor->engine;
    const int batch = settings.batch, n_threads = engine->team.n_threads();
    Algorithm& s = algorithm;
    require(batch >= 1, "batch must be at least 1");
    require(!critics.empty() && critics.size() <= MAX_CRITICS,
            "there must be 1 to " + std::to_string(MAX_CRITICS) + " critics");
    static_cast<ActorCriticSettings&>(s) = settings;
    s.n_observations = actor->network.inputs();
    s.n_actions = n_actions;
    s.n_critics = static_cast<int>(critics.size());
    const int n_inputs = s.n_observations + n_actions;
    require(std::max(2, s.n_critics) * row_blocks(batch) < Worker::MOST_ITEMS,
            "batch must be at most " +
                std::to_string(Worker::MOST_ITEMS / std::max(2, s.n_critics) * ROW_BLOCK));
    require_moments(actor->network);
    s.actor_now = Mlp::make_batch(memory, actor->network, batch, {.input = true});
    s.actor_next = Mlp::make_batch(memory, actor->network, batch, {.input = true});
    s.actor_gradients =
        Mlp::make_batch(memory, actor->network, batch, {.update_threads = n_threads});
    for (int i = 0; i < s.n_critics; i++) {
      const Network& critic = critics[i]->network;
      require_moments(critic);
      require(critic.inputs() == n_inputs && critic.outputs() == 1 && critic.target != nullptr,
              "a critic must take observation and action, return one value, and have a target");
      require(critics[i]->engine == engine, "all networks must use the same engine");
      s.critic[i] = Mlp::make_batch(memory, critic, batch, {});
      s.critic_gradients[i] =
          Mlp::make_batch(memory, critic, batch, {.input = true, .update_threads = n_threads});
      s.q_target[i] = memory.floats(batch);
      s.q[i] = memory.floats(batch);
      s.q_policy[i] = memory.floats(batch);
      s.error[i] = memory.floats(batch);
    }
    for (float** input : {&s.input_data, &s.input_policy, &s.input_next})
      *input = memory.floats(panel_floats(batch, n_inputs));
    s.rewards = memory.floats(batch);
    s.ends = memory.floats(batch);
  }

  void use_replay(const ReplayArrays& given) {
    require(!begun, "gradient steps have begun: call finish() first");
    const auto rows = static_cast<std::int64_t>(given.rewards.size());
    const auto holds = [&](const auto& array, int columns) {
      require(static_cast<std::int64_t>(array.size()) == rows * columns,
              "every array of the replay buffer must have " + std::to_string(rows) + " rows");
    };
    holds(given.following, 1);
    holds(given.actions, algorithm.n_actions);
    holds(given.ends, 1);
    const auto n = static_cast<std::int64_t>(given.observations.size());
    require(n % algorithm.n_observations == 0 && n >= rows * algorithm.n_observations,
            "observations must have " + std::to_string(algorithm.n_observations) +
                " columns and a row for every transition");
    arrays = given;
    n_rows = rows;
    n_observation_rows = n / algorithm.n_observations;
    replay = {.observations = given.observations.data(),
              .following = given.following.data(),
              .actions = given.actions.data(),
              .rewards = given.rewards.data(),
              .ends = given.ends.data(),
              .normalization = {}};
  }

  // Begins gradient steps on the other threads. `job` is the kernel's.
  void begin(std::unique_ptr<Begun> steps, int noise_arrays, Team::Job job) {
    require(!begun, "gradient steps have begun already: call finish() first");
    check(steps->batches, noise_arrays);
    replay.normalization = steps->normalizer.of(algorithm.n_observations);
    {
      nb::gil_scoped_release released;
      engine->acquire();
    }
    engine->keep();
    // The arrays may have changed since the last call: loading a state assigns new ones.
    algorithm.actor = actor->network;
    for (int i = 0; i < algorithm.n_critics; i++) algorithm.critics[i] = critics[i]->network;
    begun = std::move(steps);
    begun->losses.resize(static_cast<std::size_t>(begun->batches.n()));
    begun->job.emplace(
        OffPolicyJob<Algorithm, Losses>{algorithm, replay,
                                        Steps{.n = begun->batches.n(),
                                              .indices = begun->batches.indices.data(),
                                              .noise = begun->batches.noise.data(),
                                              .actor = begun->actor.data(),
                                              .critic = begun->critic.data(),
                                              .entropy = begun->entropy.data(),
                                              .delayed = begun->delayed.get()},
                                        begun->losses.data()});
    engine->team.begin(job, &*begun->job);
  }

  // To be called by every destructor: the threads use members of the derived class, too.
  void stop() {
    if (begun) finish();
  }

  // Takes part in the gradient steps that have begun, until they are done.
  std::unique_ptr<Begun> finish() {
    require(begun != nullptr, "no gradient steps have begun: call begin() first");
    std::unique_ptr<Begun> done = std::move(begun);
    nb::gil_scoped_release released;
    engine->team.join();
    engine->release();
    return done;
  }

  void check(const Batches& batches, int noise_arrays) const {
    const auto& [indices, noise] = batches;
    require(n_rows > 0, "use_replay must be called first");
    require(indices.ndim() == 2 && static_cast<int>(indices.shape(1)) == algorithm.batch,
            "indices must be [gradient steps, " + std::to_string(algorithm.batch) + "]");
    require(static_cast<std::ptrdiff_t>(noise.size()) ==
                static_cast<std::ptrdiff_t>(indices.size()) * noise_arrays * algorithm.n_actions,
            "the shape of noise does not match indices");
    for (std::size_t i = 0; i < indices.size(); i++) {
      const std::int64_t row = indices.data()[i];
      if (row < 0 || row >= n_rows)
        throw std::out_of_range("index " + std::to_string(row) + " is not in the replay buffer");
      if (replay.following[row] < 0 || replay.following[row] >= n_observation_rows)
        throw std::out_of_range("the next observation of transition " + std::to_string(row) +
                                " is not in the replay buffer");
    }
  }
};

struct SacLearner : OffPolicy<Sac, SacLosses> {
  Floats entropy;
  std::vector<int> rows;  // storage of rows_of and place

  SacLearner(const ActorCriticNetworks& networks, Floats entropy_,
             const ActorCriticSettings& shared, const SacSettings& own, const AdamSettings& adam_)
      : entropy(entropy_) {
    require(networks.actor->network.outputs() % 2 == 0 && entropy.size() == 3,
            "SAC's actor must return mean and standard deviation; entropy must have three "
            "numbers");
    require(own.target_update_interval >= 1, "target_update_interval must be at least 1");
    const int n_actions = networks.actor->network.outputs() / 2;
    set_up(networks, n_actions, shared, adam_);
    Sac& s = algorithm;
    static_cast<SacSettings&>(s) = own;
    s.entropy = entropy.data();
    const auto n = panel_floats(1, s.batch * n_actions);
    for (GaussianSample* g : {&s.now, &s.next}) {
      for (float** array :
           {&g->noise, &g->mean, &g->log_std, &g->std, &g->action, &g->slope, &g->density})
        *array = memory.floats(n);
      g->log_prob = memory.floats(s.batch);
    }
    rows.resize(static_cast<std::size_t>(s.n_critics + 1) * s.batch);
    for (int i = 0; i < s.n_critics; i++) s.rows_of[i] = rows.data() + i * s.batch;
    s.place = rows.data() + s.n_critics * s.batch;
  }

  ~SacLearner() { stop(); }

  void begin(const Batches& batches, const Progress& progress, int n_before,
             const Normalizer& normalizer) {
    const int n = batches.n();
    auto steps = std::make_unique<Begun>(Begun{.batches = batches, .normalizer = normalizer});
    steps->actor = steps->critic = adam.from(progress, n);
    // As in SB3, the entropy coefficient uses torch's default Adam, regardless of the networks'.
    const AdamSettings torchs{.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 0};
    steps->entropy = torchs.from(progress, n);
    steps->delayed = std::make_unique<bool[]>(static_cast<std::size_t>(n));
    for (int i = 0; i < n; i++)
      steps->delayed[i] = (n_before + i) % algorithm.target_update_interval == 0;
    OffPolicy::begin(std::move(steps), 2, engine->kernels->sac);
  }

  nb::ndarray<nb::numpy, double> finish() {
    const auto done = OffPolicy::finish();
    std::vector<double> table;
    for (const SacLosses& each : done->losses)
      table.insert(table.end(), {each.actor, each.critic, each.entropy_coefficient,
                                 each.entropy_coefficient_loss});
    return rows_of<4>(std::move(table));
  }
};

struct Td3Learner : OffPolicy<Td3, Td3Losses> {
  Td3Learner(const ActorCriticNetworks& networks, const ActorCriticSettings& shared,
             const Td3Settings& own, const AdamSettings& adam_) {
    require(networks.actor->network.target != nullptr, "TD3's actor must have a target");
    set_up(networks, networks.actor->network.outputs(), shared, adam_);
    require(own.policy_delay >= 1, "policy_delay must be at least 1");
    static_cast<Td3Settings&>(algorithm) = own;
  }

  ~Td3Learner() { stop(); }

  void begin(const Batches& batches, const Progress& progress, const Normalizer& normalizer) {
    const int n = batches.n(), policy_delay = algorithm.policy_delay;
    auto steps = std::make_unique<Begun>(Begun{.batches = batches, .normalizer = normalizer});
    steps->critic = adam.from(progress, n);
    steps->delayed = std::make_unique<bool[]>(static_cast<std::size_t>(n));
    for (int i = 0; i < n; i++) {  // the actor learns only every policy_delay steps
      const std::int64_t step = progress.n_done + i + 1;
      steps->delayed[i] = step % policy_delay == 0;
      steps->actor.push_back(
          adam.at(progress.learning_rate, std::max<std::int64_t>(1, step / policy_delay)));
    }
    OffPolicy::begin(std::move(steps), 1, engine->kernels->td3);
  }

  nb::ndarray<nb::numpy, double> finish() {
    const auto done = OffPolicy::finish();
    std::vector<double> table;
    for (std::size_t i = 0; i < done->losses.size(); i++)
      table.insert(table.end(), {done->delayed[i] ? done->losses[i].actor : std::nan(""),
                                 done->losses[i].critic});
    return rows_of<2>(std::move(table));
  }
};

}  // namespace gallop
