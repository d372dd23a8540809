// SAC and TD3 as Python holds them: they check what they are given, and hand it to the kernels.
#pragma once

#include "learner.hpp"

namespace gallop {

// How a learner normalises what it takes from the replay buffer.
struct Normalizer {
  std::optional<ConstFloats> mean, scale;
  float clip, reward_scale, reward_clip;

  Normalization of(int n_observations) const {
    require(mean.has_value() == scale.has_value(), "mean and scale come together");
    const auto n = static_cast<std::size_t>(n_observations);
    if (mean)
      require(mean->size() == n && scale->size() == n,
              "mean and scale have one entry an observation");
    return {mean ? mean->data() : nullptr, scale ? scale->data() : nullptr, clip, reward_scale,
            reward_clip};
  }
};

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
  std::optional<Flags> ends;
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
    require_moments(actor->network);
    s.actor_now = Mlp::make_batch(memory, *engine, actor->network, batch, true);
    s.actor_next = Mlp::make_batch(memory, *engine, actor->network, batch, true, false);
    s.actor_gradients = Mlp::make_batch(memory, *engine, actor->network, batch, false);
    for (int i = 0; i < s.n_critics; i++) {
      const Network& critic = critics[i]->network;
      require_moments(critic);
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

  void use_replay(ConstFloats observations, Rows following_, ConstFloats actions,
                  ConstFloats rewards, Flags ends_) {
    const auto rows = static_cast<std::int64_t>(rewards.size());
    const auto holds = [&](const auto& array, int columns) {
      require(static_cast<std::int64_t>(array.size()) == rows * columns,
              "the replay buffer's arrays have " + std::to_string(rows) + " rows each");
    };
    holds(following_, 1);
    holds(actions, algorithm.n_actions);
    holds(ends_, 1);
    const auto n = static_cast<std::int64_t>(observations.size());
    require(n % algorithm.n_observations == 0 && n >= rows * algorithm.n_observations,
            "observations have " + std::to_string(algorithm.n_observations) +
                " columns, and a row for every transition");
    arrays = {observations, actions, rewards};
    following = following_;
    ends = ends_;
    n_rows = rows;
    n_observation_rows = n / algorithm.n_observations;
    replay = {observations.data(), following_.data(), actions.data(),
              rewards.data(),      ends_.data(),      {}};
  }

  // Checks what a step is given, then calls `learn` without the GIL.
  template <class Learn>
  void run(const Indices& indices, const ConstFloats& noise, int noise_arrays,
           const Normalizer& normalizer, Learn learn) {
    check(indices, noise, noise_arrays);
    replay.normalization = normalizer.of(algorithm.n_observations);
    nb::gil_scoped_release released;
    const std::lock_guard lock(engine->busy);
    // The arrays' addresses may be new: whoever loads a state assigns, and the networks follow.
    algorithm.actor = actor->network;
    for (int i = 0; i < algorithm.n_critics; i++) algorithm.critics[i] = critics[i]->network;
    learn();
  }

  void check(const Indices& indices, const ConstFloats& noise, int noise_arrays) const {
    require(n_rows > 0, "there is no replay buffer yet");
    require(indices.ndim() == 2 && static_cast<int>(indices.shape(1)) == algorithm.batch,
            "indices are [gradient steps, " + std::to_string(algorithm.batch) + "]");
    require(static_cast<std::ptrdiff_t>(noise.size()) ==
                static_cast<std::ptrdiff_t>(indices.size()) * noise_arrays * algorithm.n_actions,
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

struct SacLearner : OffPolicy<Sac> {
  Floats entropy;
  std::vector<int> rows;  // which critic takes them back

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
      for (float** array :
           {&g->noise, &g->mean, &g->log_std, &g->std, &g->action, &g->slope, &g->density})
        *array = memory.floats(n);
      g->log_prob = memory.floats(batch);
    }
    rows.resize(static_cast<std::size_t>(s.n_critics + 1) * batch);
    for (int i = 0; i < s.n_critics; i++) s.rows_of[i] = rows.data() + i * batch;
    s.place = rows.data() + s.n_critics * batch;
  }

  nb::ndarray<nb::numpy, double> step(Indices indices, ConstFloats noise, double learning_rate,
                                      std::int64_t n_done, int target_update_interval, int n_before,
                                      const Normalizer& normalizer) {
    const int n = static_cast<int>(indices.shape(0));
    std::vector<SacLosses> losses(n);
    run(indices, noise, 2, normalizer, [&] {
      const auto adams = adam.from(learning_rate, n_done, n);
      // The entropy coefficient's Adam is torch's own, whatever the networks' is.
      const auto plain = AdamSettings{0.9, 0.999, 1e-8, 0}.from(learning_rate, n_done, n);
      const auto follows = std::make_unique<bool[]>(losses.size());
      for (int i = 0; i < n; i++) follows[i] = (n_before + i) % target_update_interval == 0;
      const Steps steps{
          n, indices.data(), noise.data(), adams.data(), adams.data(), plain.data(), follows.get()};
      engine->kernels->sac(algorithm, replay, steps, engine->team, losses.data());
    });
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
                                      const Normalizer& normalizer) {
    const int n = static_cast<int>(indices.shape(0));
    std::vector<Td3Losses> losses(n);
    run(indices, noise, 1, normalizer, [&] {
      const auto critic = adam.from(learning_rate, n_done, n);
      std::vector<Adam> slow;  // the actor has learnt only every policy_delay steps
      const auto delayed = std::make_unique<bool[]>(losses.size());
      for (int i = 0; i < n; i++) {
        const std::int64_t step = n_done + i + 1;
        delayed[i] = step % policy_delay == 0;
        slow.push_back(adam.at(learning_rate, std::max<std::int64_t>(1, step / policy_delay)));
      }
      const Steps steps{n,       indices.data(), noise.data(), slow.data(), critic.data(),
                        nullptr, delayed.get()};
      engine->kernels->td3(algorithm, replay, steps, engine->team, losses.data());
    });
    std::vector<double> rows;
    for (int i = 0; i < n; i++)
      rows.insert(rows.end(),
                  {(n_done + i + 1) % policy_delay == 0 ? losses[i].actor : std::nan(""),
                   losses[i].critic});
    return rows_of<2>(std::move(rows));
  }
};

}  // namespace gallop
