"""The reference that training is measured against is no empty loop: it learns, and counts what it does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from experiments.bare_loop import A2C, OnPolicyLoop, OnPolicyOptions, SACLoop, SACOptions
from tests.algorithms.conftest import PointEnv

EPISODE_STEPS = 20


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def points(count, **options):
    return SyncVectorEnv([lambda: PointEnv(options)] * count)


def small(options, **changes):
    return OnPolicyOptions(
        **{**vars(options), "hidden": (32,), "learning_rate": 3e-3, "gamma": 0.9, "gae_lambda": 0.95}
        | changes
    )


@pytest.mark.parametrize(
    ("options", "iterations"), [(OnPolicyOptions(minibatch_size=60, epochs=5), 25), (A2C, 250)]
)
def test_ppo_and_a2c_learn(options, iterations):
    loop = OnPolicyLoop(points(8, terminates=True), small(options), seed=1)
    before = loop.iterate().reward_mean
    for _ in range(iterations):
        after = loop.iterate().reward_mean
    assert before < -0.4
    assert after > -0.15


@pytest.mark.slow
def test_sac_learns():
    options = SACOptions(32, 3_000, warmup_steps=200, learning_rate=3e-3, gamma=0.9, hidden=(32,))
    loop = SACLoop(points(4, terminates=True), options, seed=1)
    before = loop.iterate(40).reward_mean
    for _ in range(10):
        after = loop.iterate(40).reward_mean
    assert before < -0.2
    assert after > -0.1


def test_resets_are_neither_counted_nor_learned_from():
    loop = OnPolicyLoop(points(2), small(OnPolicyOptions(None, epochs=3)), seed=1)
    # Steps 0-19, a reset, 21-31: one row of two environments is no step.
    done = loop.iterate()
    assert done.env_steps == 2 * (32 - 1)
    assert done.updates == 3
    assert not loop._real[EPISODE_STEPS].any()
    assert done.sampling_s > 0
    assert done.learning_s > 0


def test_advantages_are_those_of_the_definition():
    """Against the sum that defines them, environment by environment and step by step."""
    loop = OnPolicyLoop(points(3, terminates=True), small(OnPolicyOptions(None)), seed=2)
    loop.actor[-1].get_parameter("bias").data[0] = (
        0.6  # drifts to where episodes terminate; not all get there in time
    )
    loop.iterate()
    assert loop._terminated.any()
    assert (loop._ended & ~loop._terminated).any()
    with torch.no_grad():
        values = loop.critic(loop._obs).squeeze(-1).numpy()
    advantages, _ = loop._advantages(values)
    for n in range(3):
        for t in range(32):
            expected, weight = 0.0, 1.0
            for k in range(t, 32):
                following = 0.0 if loop._terminated[k, n] else values[k + 1, n]
                expected += weight * (loop._rewards[k, n] + 0.9 * following - values[k, n])
                if loop._ended[k, n]:
                    break
                weight *= 0.9 * 0.95
            assert advantages[t, n] == pytest.approx(expected, abs=1e-4)


def test_sac_makes_one_update_per_step_and_draws_real_transitions_only():
    # A ring of 30 rows, gone around more than twice.
    loop = SACLoop(points(2), SACOptions(16, 60, warmup_steps=20, hidden=(8,)), seed=1)
    done = loop.iterate(70)
    assert done.env_steps == 2 * (70 - 3)
    # The warm-up ends with the step that passes it.
    assert done.updates == done.env_steps - 20
    assert loop._filled == 30
    for _ in range(50):
        row, n = np.divmod(loop._draw(), 2)
        assert loop._real[row, n].all()
        assert (row != loop._head).all()
        # Time goes on by one step of the episode from each row to the one that followed it.
        time = loop._obs_rows[:, :, 1]
        assert time[(row + 1) % 30, n] == pytest.approx(time[row, n] + 1 / EPISODE_STEPS)


def test_one_pass_for_a2c_gives_the_gradient_of_two():
    """The values for the advantages are those of the loss: PPO's way to the same loss passes twice."""
    gradients = []
    # A second epoch at learning rate 0 has the gradient of the first, by way of the critic's second pass.
    for epochs in (1, 2):
        options = small(A2C, learning_rate=0.0, epochs=epochs)
        loop = OnPolicyLoop(points(4, terminates=True), options, seed=1)
        loop.iterate()
        gradients.append(
            torch.cat([p.grad.flatten() for p in loop.critic.parameters() if p.grad is not None])
        )
    once, twice = gradients
    assert once.norm() > 0.1
    torch.testing.assert_close(once, twice)


def test_one_backward_pass_for_sac_gives_the_gradients_of_each_loss_alone():
    options = SACOptions(16, 200, warmup_steps=20, learning_rate=1e-2, gamma=0.9, hidden=(8, 8))
    loop = SACLoop(points(4, terminates=True), options, seed=1)
    loop.iterate(30)  # by now the targets are not the critics any more
    rows = torch.from_numpy(loop._draw())
    loop.optimizer.zero_grad()
    torch.manual_seed(7)
    loop._loss(rows).backward()

    torch.manual_seed(7)
    obs, act, rewards, terminated = (column[rows] for column in loop._columns)
    following = loop._columns[0][(rows + loop.count) % len(loop._columns[0])]
    alpha = loop.log_alpha.exp().item()
    with torch.no_grad():
        next_act, next_log_prob = loop._act_anew(following)
        values = torch.stack([target(following, next_act) for target in loop.targets])
        goal = rewards + 0.9 * (1 - terminated) * (values.amin(0) - alpha * next_log_prob)
    new_act, log_prob = loop._act_anew(obs)
    losses = [0.5 * (critic(obs, act) - goal).square().mean() for critic in loop.critics]
    values = torch.stack([critic(obs, new_act) for critic in loop.critics])
    losses.append((alpha * log_prob - values.amin(0)).mean())
    losses.append(-loop.log_alpha * (log_prob.detach().mean() - loop.actions))
    owners: list[list[torch.Tensor]] = [[*network.parameters()] for network in (*loop.critics, loop.actor)]
    owners.append([loop.log_alpha])
    for loss, parameters in zip(losses, owners, strict=True):
        alone = torch.autograd.grad(loss, parameters, retain_graph=True)
        assert any(gradient.abs().max() > 1e-3 for gradient in alone)
        torch.testing.assert_close([parameter.grad for parameter in parameters], [*alone])


def test_another_autoreset_is_refused():
    envs = SyncVectorEnv([PointEnv] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    with pytest.raises(ValueError, match="next-step autoreset"):
        OnPolicyLoop(envs, OnPolicyOptions())
