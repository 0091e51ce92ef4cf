"""Waiting for lost env runners, with a clock of its own: the real ones are in tests/integration."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from iquitos_rl.algorithms import sampling
from iquitos_rl.algorithms.sampling import FragmentSampling

ROLLOUT_SECONDS = 300.0
PROBE_SECONDS = 60.0


class Sampling(FragmentSampling):
    """Two runners; the second answers only after it was started again so many times, if at all."""

    def __init__(self, clock: list[float], starts_needed: int, start_seconds: float = 0.0) -> None:
        self._clock = clock
        self._starts_needed = starts_needed
        self._start_seconds = start_seconds
        self.starts = 0
        self.env_runner_group = SimpleNamespace(num_remote_env_runners=lambda: 2)
        self.config = SimpleNamespace(
            env_runner_health_probe_timeout_s=PROBE_SECONDS, num_consecutive_env_runner_failures_tolerance=3
        )
        self._sampler_states = {}
        self._given_up = set()
        self._lost_at: float | None = None

    def _ask(self, runners: set[int]) -> Any:
        alive = {1} if self.starts < self._starts_needed else {1, 2}
        answering = runners & alive
        if self._lost_at is None or 2 in answering:
            self._clock[0] += ROLLOUT_SECONDS
        self._lost_at = self._clock[0] if self._lost_at is None else self._lost_at
        return [(i, ([SimpleNamespace(sampler_state={"of": i})], "metrics")) for i in sorted(answering)]

    def restore_env_runners(self, env_runner_group: Any) -> list[int]:
        assert self._lost_at is not None
        if self._clock[0] - self._lost_at < self._start_seconds:
            return []
        self.starts += 1
        return [2]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds, which pass by sleeping and sampling only."""
    now = [1000.0]
    monkeypatch.setattr(sampling.time, "monotonic", lambda: now[0])

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(sampling.time, "sleep", sleep)
    return now


@pytest.mark.parametrize("start_seconds", [0.0, 20.0])
def test_a_runner_lost_in_a_long_rollout_is_waited_for(clock: list[float], start_seconds: float) -> None:
    """The rollout alone takes longer than the wait; the wait begins after it."""
    sampled = Sampling(clock, starts_needed=1, start_seconds=start_seconds)._sample_remotely()
    assert [fragments[0].sampler_state for fragments, _ in sampled] == [{"of": 1}, {"of": 2}]


def test_a_runner_that_does_not_come_back_is_given_up_after_a_while(clock: list[float]) -> None:
    lost = Sampling(clock, starts_needed=1, start_seconds=1e9)
    before = clock[0]
    assert len(lost._sample_remotely()) == 1
    assert clock[0] - before == pytest.approx(ROLLOUT_SECONDS + PROBE_SECONDS, abs=2)
    before = clock[0]
    assert len(lost._sample_remotely()) == 1  # and from then on not waited for at all
    assert clock[0] == before


def test_a_runner_that_dies_again_and_again_is_given_up(clock: list[float]) -> None:
    dying = Sampling(clock, starts_needed=100)
    assert len(dying._sample_remotely()) == 1
    assert dying.starts == 3
