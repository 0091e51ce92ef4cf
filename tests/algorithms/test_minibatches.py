"""Minibatches: every sample once per epoch, shuffled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch

from iquitos_rl.algorithms.minibatches import ShuffledMinibatches


def _minibatches(
    samples: int, size: int, epochs: int, seed: int = 0, per_epoch: int | None = None
) -> list[np.ndarray]:
    """The sample numbers in each minibatch."""
    columns = {"number": torch.arange(samples), "obs": torch.arange(samples)[:, None].float()}
    iterator = ShuffledMinibatches(
        MultiAgentBatch({DEFAULT_MODULE_ID: SampleBatch(columns)}, samples),
        minibatch_size=size,
        epochs=epochs,
        rng=np.random.default_rng(seed),
        minibatches_per_epoch=per_epoch,
    )
    numbers = []
    for minibatch in iterator:
        part: Any = minibatch[DEFAULT_MODULE_ID]
        assert torch.equal(part["obs"][:, 0], part["number"].float())  # columns stay together
        assert minibatch.env_steps() == len(part["number"])
        numbers.append(part["number"].numpy())
    return numbers


def test_2048_samples_are_14_minibatches_of_146_and_one_of_4() -> None:
    assert [len(part) for part in _minibatches(2048, 146, epochs=1)] == [146] * 14 + [4]


@pytest.mark.parametrize(("samples", "size"), [(2048, 146), (2048, 64), (7, 7), (5, 9), (3, 1)])
def test_every_sample_comes_exactly_once_per_epoch(samples: int, size: int) -> None:
    parts = _minibatches(samples, size, epochs=3)
    per_epoch = len(parts) // 3
    for epoch in range(3):
        order = np.concatenate(parts[epoch * per_epoch : (epoch + 1) * per_epoch])
        assert np.array_equal(np.sort(order), np.arange(samples))


def test_every_epoch_is_shuffled_differently_also_the_first() -> None:
    epochs = [np.concatenate(_minibatches(100, 30, 3)[4 * i : 4 * i + 4]) for i in range(3)]
    orders = [np.arange(100), *epochs]
    assert all(not np.array_equal(a, b) for i, a in enumerate(orders) for b in orders[:i])


def test_the_seed_decides_the_order() -> None:
    first, again, other = (np.concatenate(_minibatches(100, 30, 2, seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_learners_that_must_agree_end_each_epoch_early() -> None:
    assert [len(part) for part in _minibatches(100, 30, epochs=2, per_epoch=3)] == [30] * 6


def test_nothing_follows_after_stop() -> None:
    columns = {"number": torch.arange(10)}
    iterator = ShuffledMinibatches(
        MultiAgentBatch({DEFAULT_MODULE_ID: SampleBatch(columns)}, 10),
        minibatch_size=2,
        epochs=5,
        rng=np.random.default_rng(0),
    )
    seen = 0
    for _ in iterator:
        seen += 1
        if seen == 3:
            iterator.stop()
    assert seen == 3
