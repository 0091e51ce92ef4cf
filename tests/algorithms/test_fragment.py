"""Fragments: how many steps they hold, and how they are shared among learners."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.rllib.utils.minibatch_utils import ShardEpisodesIterator

from iquitos_rl.algorithms.advantages import generalised_advantages
from iquitos_rl.algorithms.fragment import Fragment
from tests.algorithms.fragments import episodes_of, random_fragment, sorted_rows


def _steps(*fragments: Fragment) -> np.ndarray:
    """Every real step with all that belongs to it, the observation after it too; in an order of its own."""
    columns = []
    for fragment in fragments:
        real = fragment.real
        arrays = (
            fragment.observations[:-1],
            fragment.observations[1:],
            fragment.actions,
            fragment.log_probs[..., None],
            fragment.rewards[..., None],
            fragment.terminated[..., None],
            fragment.truncated[..., None],
        )
        columns.append(np.concatenate([array[real] for array in arrays], axis=1))
    return sorted_rows(np.concatenate(columns))


def test_only_real_steps_count() -> None:
    fragment = random_fragment(0, steps=50)
    assert 0 < len(fragment) < fragment.real.size
    assert len(fragment) == fragment.env_steps() == fragment.agent_steps()
    assert len(fragment) == sum(len(episode) for episode in episodes_of(fragment))


@given(seed=st.integers(0, 99), at=st.integers(0, 200))
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_two_parts_hold_every_step_once(seed: int, at: int) -> None:
    fragment = random_fragment(seed, steps=12, environments=4)
    at = min(at, len(fragment))
    first, second = fragment[:at], fragment.slice(slice(at, None))
    assert (len(first), len(second)) == (at, len(fragment) - at)
    np.testing.assert_array_equal(_steps(first, second), _steps(fragment))


@given(seed=st.integers(0, 99), lengths=st.lists(st.integers(1, 15), min_size=1, max_size=3))
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
def test_rllib_shares_fragments_among_learners(seed: int, lengths: list[int]) -> None:
    fragments: list[Any] = [random_fragment(seed + k, steps=steps) for k, steps in enumerate(lengths)]
    total = sum(map(len, fragments))
    for learners in (2, 3):
        sharder: Any = ShardEpisodesIterator(fragments, num_shards=learners)
        shares = list(sharder)
        counts = [sum(map(len, share)) for share in shares]
        assert sum(counts) == total
        assert max(counts) - min(counts) <= 1
        np.testing.assert_array_equal(_steps(*[f for share in shares for f in share]), _steps(*fragments))


def test_one_step_advantages_do_not_notice_the_cut() -> None:
    fragment = random_fragment(3, steps=12, environments=4)
    values = np.random.default_rng(0).normal(size=(13, 4)).astype(np.float32)
    whole = generalised_advantages(fragment, values, gamma=0.9, lambda_=0.0)
    at = 4 * 5 + 2  # through a row
    expected = np.sort(whole[fragment.real])
    found = []
    for part, first in ((fragment[:at], 0), (fragment.slice(slice(at, None)), None)):
        rows = len(part.real)
        start = 0 if first == 0 else 12 - rows
        advantages = generalised_advantages(part, values[start : start + rows + 1], gamma=0.9, lambda_=0.0)
        found.append(advantages[part.real])
    np.testing.assert_allclose(np.sort(np.concatenate(found)), expected, atol=1e-6)


def test_fragments_are_not_cut_with_a_stride() -> None:
    with pytest.raises(ValueError, match="stride of 2"):
        random_fragment(0).slice(slice(0, 4, 2))
