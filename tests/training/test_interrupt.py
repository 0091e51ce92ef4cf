"""Ctrl-C: the first asks, the second ends, and everything is as before afterwards."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from iquitos_rl.training import session as session_module
from iquitos_rl.training.interrupt import GracefulStop, stop_gracefully_on_signals
from iquitos_rl.training.session import PausingScheduler, SessionCallback, session

SWITCH = "TUNE_DISABLE_SIGINT_HANDLER"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_interrupts(number: signal.Signals):
    told: list[str] = []
    stop = GracefulStop(lambda: told.append("asked"))
    with stop_gracefully_on_signals(stop):
        assert told == []
        signal.raise_signal(number)
        assert stop.requested
        assert told == ["asked"]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert told == ["asked"]


def test_either_signal_may_be_the_second():
    stop = GracefulStop()
    with stop_gracefully_on_signals(stop):
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("before", [None, "0"])
def test_handlers_and_environment_are_restored(before: str | None, monkeypatch: pytest.MonkeyPatch):
    if before is None:
        monkeypatch.delenv(SWITCH, raising=False)
    else:
        monkeypatch.setenv(SWITCH, before)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def leave_by_error() -> None:
        with stop_gracefully_on_signals(GracefulStop()):
            assert os.environ[SWITCH] == "1"
            raise RuntimeError("something else went wrong")

    with pytest.raises(RuntimeError, match="something else"):
        leave_by_error()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert os.environ.get(SWITCH) == before


class RecordingProgress:
    """Stands for the progress table."""

    def __init__(self) -> None:
        self.results: list[Any] = []
        self.refreshed = 0

    def take_result(self, trial: Any, result: dict[str, Any]) -> None:
        self.results.append(result)

    def refresh(self, trials: Any) -> None:
        self.refreshed += 1


def trial(status: str) -> Any:
    return SimpleNamespace(status=status, config={"algorithm": "a2c"})


@pytest.fixture
def stop() -> GracefulStop:
    return GracefulStop()


@pytest.fixture
def progress() -> RecordingProgress:
    return RecordingProgress()


def test_trials_go_on_until_a_stop_is_asked_for_and_then_pause(stop, progress):
    scheduler = PausingScheduler()
    with session(stop, progress):
        assert scheduler.on_trial_result(None, trial("RUNNING"), {}) == TrialScheduler.CONTINUE
        stop.request()
        assert scheduler.on_trial_result(None, trial("RUNNING"), {}) == TrialScheduler.PAUSE


def test_no_trial_is_started_once_a_stop_is_asked_for(stop, progress, monkeypatch):
    waiting: Any = trial("PENDING")
    monkeypatch.setattr(FIFOScheduler, "choose_trial_to_run", lambda self, controller: waiting)
    scheduler = PausingScheduler()
    with session(stop, progress):
        assert scheduler.choose_trial_to_run(None) is waiting
        stop.request()
        assert scheduler.choose_trial_to_run(None) is None


def test_without_a_session_the_scheduler_is_tunes_own(monkeypatch):
    waiting: Any = trial("PENDING")
    monkeypatch.setattr(FIFOScheduler, "choose_trial_to_run", lambda self, controller: waiting)
    assert PausingScheduler().choose_trial_to_run(None) is waiting
    assert PausingScheduler().on_trial_result(None, trial("RUNNING"), {}) == TrialScheduler.CONTINUE
    SessionCallback().on_step_end(1, [trial("RUNNING")])
    SessionCallback().on_trial_result(1, [], trial("RUNNING"), {})


def test_tune_is_told_to_end_when_nothing_runs_any_more(stop, progress, monkeypatch):
    raised: list[int] = []
    monkeypatch.setattr(session_module.signal, "raise_signal", raised.append)
    callback = SessionCallback()
    with session(stop, progress):
        callback.on_step_end(1, [trial(Trial.PAUSED), trial(Trial.PENDING)])
        assert raised == []  # nobody asked
        stop.request()
        callback.on_step_end(2, [trial(Trial.RUNNING), trial(Trial.PAUSED)])
        assert raised == []  # one has yet to save itself
        callback.on_step_end(3, [trial(Trial.PAUSED), trial(Trial.PAUSED)])
        assert raised == [signal.SIGUSR1]
    assert progress.refreshed == 3


def test_results_reach_the_display(stop, progress):
    with session(stop, progress):
        SessionCallback().on_trial_result(1, [], trial("RUNNING"), {"env_steps": 24})
    assert progress.results == [{"env_steps": 24}]


def test_a_session_ends_with_its_block(stop, progress):
    def leave_by_error() -> None:
        with session(stop, progress):
            stop.request()
            raise RuntimeError("ended")

    with pytest.raises(RuntimeError, match="ended"):
        leave_by_error()
    assert PausingScheduler().on_trial_result(None, trial("RUNNING"), {}) == TrialScheduler.CONTINUE


def test_what_tune_pickles_holds_nothing_of_this_process(stop, progress):
    import ray.cloudpickle

    with session(stop, progress):
        for part in (PausingScheduler(), SessionCallback()):
            again = ray.cloudpickle.loads(ray.cloudpickle.dumps(part))
            assert progress not in vars(again).values()
