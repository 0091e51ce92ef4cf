"""The replay buffer holds what a list of transitions would hold, and nothing else comes out of it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iquitos_rl.algorithms.fragment import Fragment
from iquitos_rl.algorithms.replay import ReplayBuffer, Transitions

OBSERVATIONS, ACTIONS = 3, 2


def _fragment(
    rng: np.random.Generator,
    steps: int,
    envs: int,
    runner: int = 0,
    goes_on_from: np.ndarray | None = None,
    real_share: float = 0.8,
) -> Fragment:
    observations = rng.normal(size=(steps + 1, envs, OBSERVATIONS)).astype(np.float32)
    if goes_on_from is not None:
        observations[0] = goes_on_from
    return Fragment(
        observations=observations,
        actions=rng.normal(size=(steps, envs, ACTIONS)).astype(np.float32),
        log_probs=np.zeros((steps, envs), np.float32),
        rewards=rng.normal(size=(steps, envs)).astype(np.float32),
        terminated=rng.random((steps, envs)) < 0.3,
        truncated=np.zeros((steps, envs), np.bool_),
        real=rng.random((steps, envs)) < real_share,
        runner=runner,
        continues=goes_on_from is not None,
    )


def _key(observation: Any, action: Any, reward: Any, following: Any, terminated: Any) -> tuple[Any, ...]:
    return (*observation.tolist(), *action.tolist(), float(reward), *following.tolist(), bool(terminated))


@dataclass
class ListOfTransitions:
    """The buffer as it would be written without a thought for speed: per runner, its latest rows."""

    capacity: int
    samplers: int
    rows: dict[int, list[list[tuple[Any, ...]]]] = field(default_factory=dict)

    def add(self, fragment: Fragment) -> None:
        rows = self.rows.setdefault(fragment.runner, [])
        if rows and not fragment.continues:
            rows.append([])  # the last observation of the fragment before takes a row of its own
        for t in range(len(fragment.rewards)):
            rows.append(
                [
                    _key(
                        fragment.observations[t, env],
                        fragment.actions[t, env],
                        fragment.rewards[t, env],
                        fragment.observations[t + 1, env],
                        fragment.terminated[t, env],
                    )
                    for env in range(fragment.rewards.shape[1])
                    if fragment.real[t, env]
                ]
            )
        most = self.capacity // self.samplers // fragment.rewards.shape[1]
        del rows[: max(0, len(rows) - most)]

    def contents(self) -> set[tuple[Any, ...]]:
        return {transition for rows in self.rows.values() for row in rows for transition in row}


def _keys(drawn: Transitions) -> list[tuple[Any, ...]]:
    columns = (drawn.observations, drawn.actions, drawn.rewards, drawn.next_observations, drawn.terminated)
    assert all(column.flags.c_contiguous for column in columns)
    return [_key(*row) for row in zip(*columns, strict=True)]


@given(
    capacity=st.integers(8, 60),
    envs=st.lists(st.integers(1, 4), min_size=1, max_size=2),
    pieces=st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 30), st.booleans(), st.sampled_from([0.0, 0.5, 1.0])),
        min_size=1,
        max_size=12,
    ),
    seed=st.integers(0, 2**16),
)
def test_draws_exactly_what_a_list_of_transitions_holds(
    capacity: int, envs: list[int], pieces: list[tuple[int, int, bool, float]], seed: int
) -> None:
    """Fragments of all lengths, cut and continued, with resets within, on rings that wrap around."""
    rng = np.random.default_rng(seed)
    buffer = ReplayBuffer(capacity, samplers=len(envs), seed=seed)
    model = ListOfTransitions(capacity, len(envs))
    last: dict[int, np.ndarray] = {}
    steps_added = 0
    for choice, steps, continues, real_share in pieces:
        runner = choice % len(envs)
        start = last.get(runner) if continues else None
        fragment = _fragment(rng, steps, envs[runner], runner, start, real_share)
        last[runner] = fragment.observations[-1]
        steps_added += len(fragment)
        buffer.add([fragment])
        model.add(fragment)
        expected = model.contents()
        assert len(buffer) == len(expected)
        if expected:
            assert set(_keys(buffer.sample(40 * len(expected)))) == expected
    assert buffer.steps_added == steps_added


def test_draws_every_transition_equally_often() -> None:
    """Also when the rings of the runners are filled differently and many rows are no steps."""
    rng = np.random.default_rng(3)
    buffer = ReplayBuffer(40, samplers=2, seed=1)
    buffer.add([_fragment(rng, 30, 2, runner=1, real_share=0.6), _fragment(rng, 3, 1, runner=2)])
    draws = 400 * len(buffer)
    counts = np.array(list(Counter(_keys(buffer.sample(draws))).values()))
    assert len(counts) == len(buffer)
    statistic = float(((counts - 400) ** 2 / 400).sum())
    assert statistic < len(counts) + 4 * (2 * len(counts)) ** 0.5  # chi-squared: mean k, variance 2k


def test_every_part_of_a_draw_comes_from_all_runners() -> None:
    """Several minibatches are drawn at once and cut apart in their order."""
    buffer = ReplayBuffer(1_000, samplers=2, seed=0)
    rng = np.random.default_rng(0)
    for runner in (1, 2):
        fragment = _fragment(rng, 50, 4, runner)
        fragment.rewards[:] = runner
        buffer.add([fragment])
    rewards = buffer.sample(8 * 64).rewards.reshape(8, 64)
    shares = (rewards == 1).mean(axis=1)
    assert (abs(shares - 0.5) < 0.25).all()  # four standard deviations


def test_a_lost_fragment_does_not_join_what_was_not_adjacent() -> None:
    rng = np.random.default_rng(0)
    first = _fragment(rng, 4, 2, real_share=1.0)
    lost = _fragment(rng, 4, 2, goes_on_from=first.observations[-1], real_share=1.0)
    third = _fragment(rng, 4, 2, goes_on_from=lost.observations[-1], real_share=1.0)
    buffer = ReplayBuffer(100, seed=0)
    buffer.add([first, third])
    following = {tuple(row) for row in buffer.sample(1000).next_observations}
    assert {tuple(row) for row in first.observations[-1]} <= following
    assert not {tuple(row) for row in third.observations[0]} & following


def test_the_same_seed_draws_the_same() -> None:
    drawn = []
    for seed in (1, 1, 2):
        buffer = ReplayBuffer(64, seed=seed)
        buffer.add([_fragment(np.random.default_rng(0), 20, 2)])
        drawn.append(buffer.sample(30).observations)
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


@pytest.mark.parametrize("steps", [5, 50], ids=["partly filled", "wrapped around"])
def test_a_restored_buffer_goes_on_to_the_bit(steps: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    buffer = ReplayBuffer(60, samplers=2, seed=4)
    fragments = [_fragment(rng, steps, envs, runner) for runner, envs in ((1, 3), (2, 2))]
    buffer.add(fragments)
    buffer.sample(7)
    buffer.save_to_path(tmp_path / "buffer")
    in_memory = ReplayBuffer(60, samplers=2)
    in_memory.set_state(buffer.get_state())
    restored = ReplayBuffer(60, samplers=2)
    restored.restore_from_path((tmp_path / "buffer").as_posix())

    more = _fragment(rng, 6, 3, runner=1, goes_on_from=fragments[0].observations[-1])
    for each in (buffer, in_memory, restored):
        each.add([more])
    first = _keys(buffer.sample(200))
    assert _keys(in_memory.sample(200)) == first
    assert _keys(restored.sample(200)) == first
    assert restored.steps_added == buffer.steps_added
    assert len(restored) == len(buffer)


def test_saves_the_filled_part_as_arrays_without_code(tmp_path: Path) -> None:
    buffer = ReplayBuffer(1_000_000, seed=0)
    buffer.add([_fragment(np.random.default_rng(0), 10, 1)])
    buffer.save_to_path(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".npy", ".json"}
    stored = np.load(tmp_path / "runner_0_observations.npy", allow_pickle=False)
    assert stored.shape == (11, 1, OBSERVATIONS)


def test_memory_grows_with_what_is_stored() -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    buffer = ReplayBuffer(20_000_000, seed=0)  # 520 MB when full
    buffer.add([_fragment(np.random.default_rng(0), 10, 1)])
    buffer.sample(100)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_damaged_files_are_refused_by_name(tmp_path: Path) -> None:
    buffer = ReplayBuffer(64, seed=0)
    buffer.add([_fragment(np.random.default_rng(0), 10, 2)])
    buffer.save_to_path(tmp_path)
    rewards = tmp_path / "runner_0_rewards.npy"
    whole = rewards.read_bytes()
    for content, message in (
        (whole[:-4], r"runner_0_rewards.npy: 4 bytes are missing"),
        ((tmp_path / "runner_0_real.npy").read_bytes(), r"runner_0_rewards.npy: bool of shape \(11, 2\)"),
    ):
        rewards.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            ReplayBuffer(64).restore_from_path(tmp_path)
    np.save(rewards, np.array([{"code": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"runner_0_rewards.npy: object"):
        ReplayBuffer(64).restore_from_path(tmp_path)
    rewards.unlink()
    with pytest.raises(FileNotFoundError, match=r"runner_0_rewards.npy"):
        ReplayBuffer(64).restore_from_path(tmp_path)


@pytest.mark.parametrize(("capacity", "samplers"), [(32, 1), (64, 2)])
def test_a_buffer_divided_otherwise_is_not_restored(capacity: int, samplers: int, tmp_path: Path) -> None:
    buffer = ReplayBuffer(64, seed=0)
    buffer.add([_fragment(np.random.default_rng(0), 10, 2)])
    buffer.save_to_path(tmp_path)
    assert json.loads((tmp_path / "replay_buffer.json").read_text())["capacity"] == 64
    with pytest.raises(ValueError, match=r"(capacity = 64, here 32|samplers = 1, here 2): restore with"):
        ReplayBuffer(capacity, samplers=samplers).restore_from_path(tmp_path)


def test_what_cannot_be_stored_is_refused() -> None:
    rng = np.random.default_rng(0)
    buffer = ReplayBuffer(60, samplers=2)
    with pytest.raises(ValueError, match="empty"):
        buffer.sample(1)
    with pytest.raises(ValueError, match="buffer_size = 60: must be at least 62"):
        buffer.add([_fragment(rng, 1, 31)])
    buffer.add([_fragment(rng, 2, 3, runner=1)])
    with pytest.raises(ValueError, match="env runner 1 comes with 2 environments, 3 before"):
        buffer.add([_fragment(rng, 2, 2, runner=1)])
    wider = _fragment(rng, 2, 3, runner=2)
    object.__setattr__(wider, "observations", np.zeros((3, 3, 5), np.float32))
    with pytest.raises(ValueError, match="observations of length 5 from env runner 2, of length 3 before"):
        buffer.add([wider])
    buffer.add([_fragment(rng, 2, 3, runner=2)])
    with pytest.raises(ValueError, match=r"env runner 3, .* divided among 2 \(1, 2\)"):
        buffer.add([_fragment(rng, 2, 3, runner=3)])
    with pytest.raises(ValueError, match="at least 1"):
        ReplayBuffer(0)
