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

// Shared by SacLearner and Td3Learner.
template <class Algorithm>
struct OffPolicy {
  std::shared_ptr<Engine> engine;
  std::shared_ptr<Mlp> actor;
  std::vector<std::shared_ptr<Mlp>> critics;
  Algorithm algorithm{};
  AdamSettings adam{};
  Replay replay{};
  std::optional<ReplayArrays> arrays;  // kept alive
  std::int64_t n_rows = 0, n_observation_rows = 0;
  Memory memory;

  void set_up(const ActorCriticNetworks& networks, int n_actions,
              const ActorCriticSettings& settings, const AdamSettings& adam_) {
    actor = networks.actor;
    critics = networks.critics;
    adam = adam_;
    const int batch = settings.batch;
    engine = actor->engine;
    Algorithm& s = algorithm;
    require(batch >= 1, "batch must be at least 1");
    require(!critics.empty() && critics.size() <= MAX_CRITICS,
            "there must be 1 to " + std::to_string(MAX_CRITICS) + " critics");
    static_cast<ActorCriticSettings&>(s) = settings;
    s.n_observations = actor->network.inputs();
    s.n_actions = n_actions;
    s.n_critics = static_cast<int>(critics.size());
    const int n_inputs = s.n_observations + n_actions;
    require_moments(actor->network);
    s.actor_now = Mlp::make_batch(memory, actor->network, batch, {.input = true});
    s.actor_next = Mlp::make_batch(memory, actor->network, batch, {.input = true});
    s.actor_gradients = Mlp::make_batch(memory, actor->network, batch,
                                        {.update_threads = engine->team.n_threads()});
    for (int i = 0; i < s.n_critics; i++) {
      const Network& critic = critics[i]->network;
      require_moments(critic);
      require(critic.inputs() == n_inputs && critic.outputs() == 1 && critic.target != nullptr,
              "a critic must take observation and action, return one value, and have a target");
      require(critics[i]->engine == engine, "all networks must use the same engine");
      s.critic[i] = Mlp::make_batch(memory, critic, batch, {});
      s.critic_gradients[i] =
          Mlp::make_batch(memory, critic, batch, {.input = true, .update_threads = 1});
      s.q_target[i] = memory.floats(batch);
      s.q[i] = memory.floats(batch);
      s.q_policy[i] = memory.floats(batch);
    }
    for (float** input : {&s.input_data, &s.input_policy, &s.input_next})
      *input = memory.floats(panel_floats(batch, n_inputs));
    s.rewards = memory.floats(batch);
    s.ends = memory.floats(batch);
  }

  void use_replay(const ReplayArrays& given) {
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

  // Checks the arguments of a step, then calls `learn` without the GIL.
  template <class Learn>
  void run(const Batches& batches, int noise_arrays, const Normalizer& normalizer, Learn learn) {
    check(batches, noise_arrays);
    replay.normalization = normalizer.of(algorithm.n_observations);
    nb::gil_scoped_release released;
    const std::lock_guard lock(engine->busy);
    // The arrays may have changed since the last call: loading a state assigns new ones.
    algorithm.actor = actor->network;
    for (int i = 0; i < algorithm.n_critics; i++) algorithm.critics[i] = critics[i]->network;
    learn();
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

struct SacLearner : OffPolicy<Sac> {
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

  nb::ndarray<nb::numpy, double> step(const Batches& batches, const Progress& progress,
                                      int n_before, const Normalizer& normalizer) {
    const int n = batches.n();
    std::vector<SacLosses> losses(n);
    run(batches, 2, normalizer, [&] {
      const auto adams = adam.from(progress, n);
      // As in SB3, the entropy coefficient uses torch's default Adam, regardless of the networks'.
      const AdamSettings torchs{.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 0};
      const auto of_entropy = torchs.from(progress, n);
      const auto follows = std::make_unique<bool[]>(losses.size());
      for (int i = 0; i < n; i++)
        follows[i] = (n_before + i) % algorithm.target_update_interval == 0;
      const Steps steps{.n = n,
                        .indices = batches.indices.data(),
                        .noise = batches.noise.data(),
                        .actor = adams.data(),
                        .critic = adams.data(),
                        .entropy = of_entropy.data(),
                        .delayed = follows.get()};
      engine->kernels->sac(algorithm, replay, steps, engine->team, losses.data());
    });
    std::vector<double> table;
    for (const SacLosses& each : losses)
      table.insert(table.end(), {each.actor, each.critic, each.entropy_coefficient,
                                 each.entropy_coefficient_loss});
    return rows_of<4>(std::move(table));
  }
};

struct Td3Learner : OffPolicy<Td3> {
  Td3Learner(const ActorCriticNetworks& networks, const ActorCriticSettings& shared,
             const Td3Settings& own, const AdamSettings& adam_) {
    require(networks.actor->network.target != nullptr, "TD3's actor must have a target");
    set_up(networks, networks.actor->network.outputs(), shared, adam_);
    require(own.policy_delay >= 1, "policy_delay must be at least 1");
    static_cast<Td3Settings&>(algorithm) = own;
  }

  nb::ndarray<nb::numpy, double> step(const Batches& batches, const Progress& progress,
                                      const Normalizer& normalizer) {
    const int n = batches.n(), policy_delay = algorithm.policy_delay;
    std::vector<Td3Losses> losses(n);
    const auto delayed = std::make_unique<bool[]>(losses.size());
    run(batches, 1, normalizer, [&] {
      const auto critic = adam.from(progress, n);
      std::vector<Adam> slow;  // the actor's: it learns only every policy_delay steps
      for (int i = 0; i < n; i++) {
        const std::int64_t step = progress.n_done + i + 1;
        delayed[i] = step % policy_delay == 0;
        slow.push_back(
            adam.at(progress.learning_rate, std::max<std::int64_t>(1, step / policy_delay)));
      }
      const Steps steps{.n = n,
                        .indices = batches.indices.data(),
                        .noise = batches.noise.data(),
                        .actor = slow.data(),
                        .critic = critic.data(),
                        .entropy = nullptr,
                        .delayed = delayed.get()};
      engine->kernels->td3(algorithm, replay, steps, engine->team, losses.data());
    });
    std::vector<double> table;
    for (int i = 0; i < n; i++)
      table.insert(table.end(), {delayed[i] ? losses[i].actor : std::nan(""), losses[i].critic});
    return rows_of<2>(std::move(table));
  }
};

}  // namespace gallop
