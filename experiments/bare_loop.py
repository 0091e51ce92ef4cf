"""How fast can PPO, A2C and SAC be at all? One loop in plain PyTorch each, without a framework.

    OMP_NUM_THREADS=1 .venv/bin/python experiments/bare_loop.py --algo ppo [--dataset DIR] [--iterations 10]

The reference for `iquitos-rl bench train`: what is slower than this is the framework. In the manner of
CleanRL, on any Gymnasium vector environment with next-step autoreset. Arrays are made once, a step takes one
forward, sampling and learning are timed apart. Policies act in [-1, 1], mapped linearly to the bounds.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log, pi
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import mse_loss, softplus

Envs = VectorEnv[Any, Any, Any]


@dataclass(frozen=True)
class OnPolicyOptions:
    """PPO; and A2C with `optimizer` rmsprop, one epoch and one minibatch of the whole rollout.

    Attributes:
        minibatch_size: samples per gradient step; None = the whole rollout.
        epochs: passes over the rollout, each shuffled anew.
        optimizer: "adam" (fused) or "rmsprop".
        clip_range: of the probability ratio; None = the plain policy gradient (A2C).
        rollout_steps: steps of each environment per iteration.
        normalize_advantage: per minibatch.
    """

    minibatch_size: int | None = 512
    epochs: int = 10
    optimizer: str = "adam"
    clip_range: float | None = 0.2
    rollout_steps: int = 32
    normalize_advantage: bool = True
    learning_rate: float = 1e-4
    gamma: float = 0.99
    gae_lambda: float = 0.95
    value_coefficient: float = 0.5
    entropy_coefficient: float = 0.01
    max_grad_norm: float = 0.5
    hidden: tuple[int, ...] = (256, 256)


A2C = OnPolicyOptions(None, 1, "rmsprop", None, normalize_advantage=False, gae_lambda=1.0)


@dataclass(frozen=True)
class SACOptions:
    """SAC with automatic temperature and one update per environment step, after a warm-up at random."""

    batch_size: int = 256
    buffer_size: int = 50_000
    warmup_steps: int = 1_000
    learning_rate: float = 5e-5
    gamma: float = 0.99
    tau: float = 0.005
    hidden: tuple[int, ...] = (256, 256)


@dataclass(frozen=True)
class Iteration:
    """What an iteration did and how long it took; a reset is no environment step."""

    env_steps: int
    updates: int
    sampling_s: float
    learning_s: float
    reward_mean: float
    approx_kl: float = 0.0


class Loop:
    """An environment that is sampled from, and networks that learn from it.

    Args:
        envs: reset here; must use next-step autoreset, and may overwrite the observations that it returns.
        seed: of weights, actions, minibatches and environments.

    Raises:
        ValueError: another autoreset mode, or spaces that are not flat boxes.
    """

    def __init__(self, envs: Envs, seed: int) -> None:
        if envs.metadata.get("autoreset_mode") is not AutoresetMode.NEXT_STEP:
            raise ValueError("bare_loop: expected an environment with next-step autoreset")
        observed, acted = envs.single_observation_space, envs.single_action_space
        if not isinstance(observed, Box) or not isinstance(acted, Box) or len(observed.shape) != 1:
            raise ValueError("bare_loop: expected flat Box observations and actions")
        self.envs = envs
        self.count = envs.num_envs
        self.observations = int(observed.shape[0])
        self.actions = int(acted.shape[0])
        self._scale = (acted.high - acted.low).astype(np.float32) / 2
        self._middle = (acted.high + acted.low).astype(np.float32) / 2
        self._request = np.zeros((self.count, self.actions), np.float32)
        torch.manual_seed(seed)
        self._rng = np.random.default_rng(seed)
        self._first, _ = envs.reset(seed=seed)
        self._resetting = np.zeros(self.count, bool)

    def _step(self, actions: NDArray[np.float32]) -> tuple[Any, Any, Any, Any]:
        """Step with actions that are clipped to [-1, 1], then mapped to the bounds."""
        request = self._request
        np.clip(actions, -1.0, 1.0, out=request)
        request *= self._scale
        request += self._middle
        observations, rewards, terminated, truncated, _ = self.envs.step(request)
        self._resetting = terminated | truncated
        return observations, rewards, terminated, truncated


def mlp(sizes: Sequence[int], activation: type[nn.Module]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), activation()]
    return nn.Sequential(*layers[:-1])


def orthogonal_mlp(sizes: Sequence[int], last_gain: float) -> nn.Sequential:
    """A tanh MLP with the first weights of Stable-Baselines3."""
    network = mlp(sizes, nn.Tanh)
    linears = [layer for layer in network if isinstance(layer, nn.Linear)]
    for layer in linears:
        nn.init.orthogonal_(layer.weight, last_gain if layer is linears[-1] else 2**0.5)
        nn.init.zeros_(layer.bias)
    return network


def gaussian_log_prob(actions: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Sum over the last axis; spelled out, because torch.distributions checks and broadcasts every call."""
    normed = (actions - mean) * torch.exp(-log_std)
    return -0.5 * normed.square().sum(-1) - log_std.sum(-1) - 0.5 * log(2 * pi) * actions.shape[-1]


class OnPolicyLoop(Loop):
    """PPO or A2C with separate actor and critic."""

    def __init__(self, envs: Envs, options: OnPolicyOptions, seed: int = 0) -> None:
        super().__init__(envs, seed)
        self.options = options
        steps, count = options.rollout_steps, self.count
        self.actor = orthogonal_mlp([self.observations, *options.hidden, self.actions], 0.01)
        self.critic = orthogonal_mlp([self.observations, *options.hidden, 1], 1.0)
        self.log_std = nn.Parameter(torch.zeros(self.actions))
        self._parameters = [*self.actor.parameters(), *self.critic.parameters(), self.log_std]
        self.optimizer: torch.optim.Optimizer
        if options.optimizer == "adam":
            self.optimizer = torch.optim.Adam(self._parameters, options.learning_rate, eps=1e-5, fused=True)
        else:
            self.optimizer = torch.optim.RMSprop(self._parameters, options.learning_rate, eps=1e-5)
        # Row t + 1 of the observations is what followed step t, at the end of an episode too.
        self._obs = torch.zeros(steps + 1, count, self.observations)
        self._act = torch.zeros(steps, count, self.actions)
        self._log_prob = torch.zeros(steps, count)
        self._obs_rows, self._act_rows = self._obs.numpy(), self._act.numpy()
        self._rewards = np.zeros((steps, count), np.float32)
        self._terminated, self._ended, self._real = (np.zeros((steps, count), bool) for _ in range(3))
        self._obs_rows[steps] = self._first

    def iterate(self) -> Iteration:
        """One rollout of all environments, and the update from it."""
        started = time.perf_counter()
        self._sample()
        sampled = time.perf_counter()
        updates, approx_kl = self._learn()
        learned = time.perf_counter()
        env_steps = int(self._real.sum())
        return Iteration(
            env_steps=env_steps,
            updates=updates,
            sampling_s=sampled - started,
            learning_s=learned - sampled,
            reward_mean=float(self._rewards.sum() / max(1, env_steps)),
            approx_kl=approx_kl,
        )

    @torch.inference_mode()
    def _sample(self) -> None:
        std = self.log_std.exp()
        constant = float(-self.log_std.sum() - 0.5 * log(2 * pi) * self.actions)
        self._obs_rows[0] = self._obs_rows[-1]
        for t in range(self.options.rollout_steps):
            noise = torch.randn(self.count, self.actions)
            torch.addcmul(self.actor(self._obs[t]), std, noise, out=self._act[t])
            self._log_prob[t] = constant - 0.5 * noise.square().sum(-1)
            np.logical_not(self._resetting, out=self._real[t])
            observations, rewards, terminated, truncated = self._step(self._act_rows[t])
            self._obs_rows[t + 1] = observations
            self._rewards[t] = rewards
            self._terminated[t] = terminated
            np.logical_or(terminated, truncated, out=self._ended[t])

    def _advantages(self, values: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        """Generalised advantages and value targets, shape (steps, environments).

        A truncated step, and the last of the rollout, is bootstrapped with the value of what followed it.
        """
        gamma, gae_lambda = self.options.gamma, self.options.gae_lambda
        deltas = self._rewards + gamma * values[1:] * ~self._terminated - values[:-1]
        carried = gamma * gae_lambda * ~self._ended
        advantages = np.empty_like(deltas)
        running = np.zeros(self.count, np.float32)
        for t in reversed(range(len(deltas))):
            running = advantages[t] = deltas[t] + carried[t] * running
        return torch.from_numpy(advantages), torch.from_numpy(advantages + values[:-1])

    def _learn(self) -> tuple[int, float]:
        """Gradient steps over the rollout; returns their number and the mean approximate KL."""
        options = self.options
        real = np.flatnonzero(self._real)
        size = options.minibatch_size or len(real)
        # A single gradient step: the values for the advantages are those of its loss.
        once = options.epochs == 1 and size >= len(real)
        with torch.set_grad_enabled(once):
            values = self.critic(self._obs.flatten(0, 1)).view(self._obs.shape[:2])
        columns = [self._obs[:-1], self._act, self._log_prob, *self._advantages(values.detach().numpy())]
        columns += [values[:-1]] if once else []
        samples = [column.flatten(0, 1) for column in columns]
        divergences = []
        for _ in range(options.epochs):
            order = torch.from_numpy(self._rng.permutation(real))
            for rows in order.split(size):
                # The whole rollout at once needs no order, and mostly no copy.
                whole = len(rows) == len(samples[0])
                batch = samples if whole else [column.index_select(0, rows) for column in samples]
                divergences.append(self._update(batch))
        return len(divergences), float(torch.stack(divergences).mean())

    def _update(self, batch: Sequence[Tensor]) -> Tensor:
        options = self.options
        obs, act, log_prob, advantages, targets, *known = batch
        values = known[0] if known else self.critic(obs).squeeze(-1)
        log_ratio = gaussian_log_prob(act, self.actor(obs), self.log_std) - log_prob
        ratio = log_ratio.exp()
        if options.normalize_advantage:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        gain = advantages * ratio
        if options.clip_range is not None:
            clipped = ratio.clamp(1 - options.clip_range, 1 + options.clip_range)
            gain = torch.min(gain, advantages * clipped)
        value_loss = mse_loss(values, targets)
        entropy = self.log_std.sum()  # up to a constant
        loss = options.value_coefficient * value_loss - gain.mean() - options.entropy_coefficient * entropy
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters, options.max_grad_norm, foreach=True)
        self.optimizer.step()
        return (ratio.detach() - 1 - log_ratio.detach()).mean()


class Critic(nn.Module):
    """An MLP on observation and action side by side.

    The first layer is kept as two, so that nothing is copied together, and so that the gradient towards the
    action does not pay for the observation.
    """

    def __init__(self, observations: int, actions: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.from_observation = nn.Linear(observations, hidden[0])
        self.from_action = nn.Linear(actions, hidden[0], bias=False)
        bound = (observations + actions) ** -0.5  # as one layer would begin
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)
        self.rest = nn.Sequential(nn.ReLU(), *mlp([*hidden, 1], nn.ReLU))

    def forward(self, obs: Tensor, act: Tensor) -> Tensor:
        return self.value(self.from_observation(obs), act)

    def value(self, observed: Tensor, act: Tensor) -> Tensor:
        """The value of actions, from what the first layer makes of the observations."""
        value: Tensor = self.rest(observed + self.from_action(act))
        return value.squeeze(-1)

    def frozen(self) -> Critic:
        """The same weights, in the same memory, for a pass that leaves them without a gradient."""
        twin = copy.deepcopy(self).requires_grad_(False)
        twin.load_state_dict(self.state_dict(), assign=True)
        return twin


class SACLoop(Loop):
    """SAC on a flat ring of rows, each one step of all environments.

    The ring keeps every observation once: what followed a step is in the next row, because a reset has a row
    of its own (which is never drawn).
    """

    def __init__(self, envs: Envs, options: SACOptions, seed: int = 0) -> None:
        super().__init__(envs, seed)
        self.options = options
        self.actor = mlp([self.observations, *options.hidden, 2 * self.actions], nn.ReLU)
        self.critics = [Critic(self.observations, self.actions, options.hidden) for _ in range(2)]
        self.targets = [copy.deepcopy(critic).requires_grad_(False) for critic in self.critics]
        self._frozen = [critic.frozen() for critic in self.critics]
        self._critic_parameters, self._target_parameters = (
            tuple[Tensor, ...](parameter for critic in critics for parameter in critic.parameters())
            for critics in (self.critics, self.targets)
        )
        self.log_alpha = torch.zeros((), requires_grad=True)
        parameters = [*self._critic_parameters, *self.actor.parameters(), self.log_alpha]
        self.optimizer = torch.optim.Adam(parameters, options.learning_rate, fused=True)
        rows = self._rows = max(2, options.buffer_size // self.count)
        self._obs = torch.zeros(rows, self.count, self.observations)
        self._act = torch.zeros(rows, self.count, self.actions)
        self._rewards, self._terminated = (torch.zeros(rows, self.count) for _ in range(2))
        self._obs_rows, self._act_rows = self._obs.numpy(), self._act.numpy()
        self._columns = [
            column.flatten(0, 1) for column in (self._obs, self._act, self._rewards, self._terminated)
        ]
        self._real = np.zeros((rows, self.count), bool)
        self._head = self._filled = 0  # the row that is next to be acted in; how many have been
        self._obs_rows[0] = self._first
        self.env_steps = 0

    def iterate(self, rounds: int = 1) -> Iteration:
        """Steps of all environments, each followed by as many updates as it had real environment steps."""
        steps = updates = 0
        rewards = sampling_s = learning_s = 0.0
        for _ in range(rounds):
            started = time.perf_counter()
            due, reward = self._sample()
            sampled = time.perf_counter()
            self.env_steps += due
            steps += due
            rewards += reward
            if self.env_steps > self.options.warmup_steps:
                for _ in range(due):
                    self._update()
                updates += due
            sampling_s += sampled - started
            learning_s += time.perf_counter() - sampled
        return Iteration(steps, updates, sampling_s, learning_s, rewards / max(1, steps))

    @torch.inference_mode()
    def _sample(self) -> tuple[int, float]:
        """Step all environments once; returns the number of real steps and the sum of their rewards."""
        t, following = self._head, (self._head + 1) % self._rows
        if self.env_steps < self.options.warmup_steps:
            self._act[t].uniform_(-1, 1)
        else:
            mean, log_std = self._policy(self._obs[t])
            noise = torch.randn(self.count, self.actions)
            torch.tanh(torch.addcmul(mean, log_std.exp(), noise), out=self._act[t])
        np.logical_not(self._resetting, out=self._real[t])
        observations, rewards, terminated, _ = self._step(self._act_rows[t])
        self._rewards[t] = torch.as_tensor(rewards)
        self._terminated[t] = torch.as_tensor(terminated)
        self._obs_rows[following] = observations
        self._real[following] = False  # once the ring is full: its oldest row gives way
        self._head = following
        self._filled = min(self._rows, self._filled + 1)
        return int(self._real[t].sum()), float(np.sum(rewards))

    def _policy(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.actor(obs).chunk(2, dim=-1)
        return mean, log_std.clamp(-20, 2)

    def _act_anew(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Draw an action squashed by tanh, and its log probability."""
        mean, log_std = self._policy(obs)
        noise = torch.randn_like(mean)
        raw = torch.addcmul(mean, log_std.exp(), noise)
        gaussian = -0.5 * noise.square() - log_std - 0.5 * log(2 * pi)
        # log(1 - tanh(x)^2), without its cancellation at large |x|
        squashing = 2 * (log(2) - raw - softplus(-2 * raw))
        return torch.tanh(raw), (gaussian - squashing).sum(-1)

    def _draw(self) -> NDArray[np.int64]:
        """Numbers of real transitions in the flattened ring."""
        real = self._real.reshape(-1)
        last = self._filled * self.count
        chosen = self._rng.integers(last, size=self.options.batch_size)
        while len(wrong := np.flatnonzero(~real[chosen])):
            chosen[wrong] = self._rng.integers(last, size=len(wrong))
        return chosen

    def _update(self) -> None:
        self.optimizer.zero_grad()
        self._loss(torch.from_numpy(self._draw())).backward()
        self.optimizer.step()
        torch._foreach_lerp_(self._target_parameters, self._critic_parameters, self.options.tau)

    def _loss(self, rows: Tensor) -> Tensor:
        """The sum of the losses of critics, policy and temperature; no network has a gradient from two."""
        obs, act, rewards, terminated = (column.index_select(0, rows) for column in self._columns)
        following = self._columns[0].index_select(0, (rows + self.count) % len(self._columns[0]))
        alpha = self.log_alpha.detach().exp()
        with torch.no_grad():
            next_act, next_log_prob = self._act_anew(following)
            next_value = torch.min(*(target(following, next_act) for target in self.targets))
            goal = rewards + self.options.gamma * (1 - terminated) * (next_value - alpha * next_log_prob)
        new_act, log_prob = self._act_anew(obs)
        # The target entropy is minus the number of actions.
        losses = [-self.log_alpha * (log_prob.detach().mean() - self.actions)]
        new_values = []
        for critic, frozen in zip(self.critics, self._frozen, strict=True):
            observed = critic.from_observation(obs)  # once, for both actions
            losses.append(0.5 * mse_loss(critic.value(observed, act), goal))
            new_values.append(frozen.value(observed.detach(), new_act))
        losses.append((alpha * log_prob - torch.min(*new_values)).mean())
        return torch.stack(losses).sum()


def main() -> None:
    from iquitos_rl.env import make_vector_env
    from iquitos_rl.site import load_dataset

    parser = argparse.ArgumentParser(description="Speed of a bare training loop on the site.")
    parser.add_argument("--algo", choices=("ppo", "a2c", "sac"), default="ppo")
    parser.add_argument("--dataset", default="datasets/iquitos_station", help="folder of the dataset")
    parser.add_argument("--iterations", type=int, default=10)
    given = parser.parse_args()
    torch.set_num_threads(1)
    dataset = load_dataset(given.dataset)
    years = [dataset.schema_path("train", year) for year in range(dataset.years("train"))]
    envs = make_vector_env(years, 64, episode_steps=168, random_start="day", copy=False)
    loop: OnPolicyLoop | SACLoop
    if given.algo == "sac":
        loop = SACLoop(envs, SACOptions())
    else:
        loop = OnPolicyLoop(envs, A2C if given.algo == "a2c" else OnPolicyOptions())
    while not loop.iterate().updates:  # SAC's warm-up
        pass
    for _ in range(given.iterations):
        done = loop.iterate()
        seconds = done.sampling_s + done.learning_s
        print(f"{done.env_steps / seconds:8,.0f} env-steps/s {done.updates / seconds:6.1f} updates/s, {done}")


if __name__ == "__main__":
    main()
