"""The gradient steps of SB3 2.9's SAC, TD3 and PPO, written out for any precision.

In float64 this is the reference for exact arithmetic, with which SB3's own `train` and the native
kernels are both compared.
"""

from __future__ import annotations

import torch
from torch.nn import functional


def _step(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def _follow(parameters, targets, tau):
    with torch.no_grad():
        for parameter, target in zip(parameters, targets, strict=True):
            target.mul_(1 - tau).add_(parameter, alpha=tau)


def sac(policy, log_ent_coef, settings, batches, noise, target_entropy):
    """Train `policy` and `log_ent_coef` (None: fixed) on each batch, with its noise."""
    actor, critic, target = policy.actor, policy.critic, policy.critic_target
    learns = log_ent_coef is not None
    adam = torch.optim.Adam([log_ent_coef], lr=settings.learning_rate) if learns else None

    def act(observations, normal):
        mean, log_std, _ = actor.get_action_dist_params(observations)
        x = mean + log_std.exp() * normal
        action = torch.tanh(x)
        density = torch.distributions.Normal(mean, log_std.exp()).log_prob(x).sum(1)
        return action, density - torch.log(1 - action**2 + 1e-6).sum(1)

    for step, (batch, (now, following)) in enumerate(zip(batches, noise, strict=True)):
        action, log_prob = act(batch.observations, now)
        if learns:
            alpha = log_ent_coef.detach().exp()
            _step(adam, -(log_ent_coef * (log_prob + target_entropy).detach()).mean())
        else:
            alpha = float(settings.ent_coef)
        with torch.no_grad():
            next_action, next_log_prob = act(batch.next_observations, following)
            values = torch.cat(target(batch.next_observations, next_action), 1).min(1).values
            goal = batch.rewards + (1 - batch.dones) * settings.gamma * (
                values - alpha * next_log_prob
            )
        estimates = critic(batch.observations, batch.actions)
        _step(critic.optimizer, 0.5 * sum(functional.mse_loss(q[:, 0], goal) for q in estimates))
        values = torch.cat(critic(batch.observations, action), 1).min(1).values
        _step(actor.optimizer, (alpha * log_prob - values).mean())
        if step % settings.target_update_interval == 0:
            _follow(critic.parameters(), target.parameters(), settings.tau)


def td3(policy, settings, batches, noise):
    """The same for TD3; for the policy's delay, the first step is number 1."""
    actor, critic = policy.actor, policy.critic
    for step, (batch, normal) in enumerate(zip(batches, noise, strict=True), start=1):
        with torch.no_grad():
            clip = settings.target_noise_clip
            smoothing = (normal * settings.target_policy_noise).clamp(-clip, clip)
            following = (policy.actor_target(batch.next_observations) + smoothing).clamp(-1, 1)
            values = torch.cat(policy.critic_target(batch.next_observations, following), 1)
            values = values.min(1).values
            goal = batch.rewards + (1 - batch.dones) * settings.gamma * values
        estimates = critic(batch.observations, batch.actions)
        _step(critic.optimizer, sum(functional.mse_loss(q[:, 0], goal) for q in estimates))
        if step % settings.policy_delay == 0:
            loss = -critic.q1_forward(batch.observations, actor(batch.observations)).mean()
            _step(actor.optimizer, loss)
            _follow(critic.parameters(), policy.critic_target.parameters(), settings.tau)
            _follow(actor.parameters(), policy.actor_target.parameters(), settings.tau)


def ppo(policy, settings, batches):
    """The same for PPO; each batch has observations, actions, old values and log-probabilities,
    advantages and returns."""
    for batch in batches:
        actions = batch.actions
        if hasattr(policy.action_space, "n"):
            actions = actions.long().flatten()
        values, log_prob, entropy = policy.evaluate_actions(batch.observations, actions)
        values, advantages = values.flatten(), batch.advantages
        if settings.normalize_advantage and len(advantages) > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        ratio = torch.exp(log_prob - batch.log_probs)
        clip = settings.clip_range
        clipped = torch.clamp(ratio, 1 - clip, 1 + clip)
        loss = -torch.min(advantages * ratio, advantages * clipped).mean()
        if settings.clip_range_vf is not None:
            change = values - batch.values
            change = change.clamp(-settings.clip_range_vf, settings.clip_range_vf)
            values = batch.values + change
        loss = loss - settings.ent_coef * entropy.mean()
        loss = loss + settings.vf_coef * functional.mse_loss(batch.returns, values)
        policy.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), settings.max_grad_norm)
        policy.optimizer.step()
