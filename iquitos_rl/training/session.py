"""What connects a running Tune experiment with this process: its progress display and the wish to stop.

Tune pickles its callbacks and its scheduler into the experiment's folder and takes those of the first start
on every restore. So they hold nothing of one process; they look the present session up here.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from iquitos_rl.training.interrupt import GracefulStop
from iquitos_rl.training.progress import ProgressTable

__all__ = ["PausingScheduler", "Session", "SessionCallback", "session"]


@dataclass(frozen=True)
class Session:
    """One experiment being run by this process."""

    stop: GracefulStop
    progress: ProgressTable


_present: Session | None = None


@contextmanager
def session(stop: GracefulStop, progress: ProgressTable) -> Iterator[None]:
    """Make a session the present one for the length of the block."""
    global _present
    _present = Session(stop, progress)
    try:
        yield
    finally:
        _present = None


def _stop_requested() -> bool:
    return _present is not None and _present.stop.requested


class PausingScheduler(FIFOScheduler):
    """Runs trials in order; once a stop is asked for, pauses (and so saves) them and starts no more."""

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Go on, or pause."""
        return str(TrialScheduler.PAUSE if _stop_requested() else TrialScheduler.CONTINUE)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The next trial, none once a stop is asked for."""
        return None if _stop_requested() else super().choose_trial_to_run(tune_controller)


class SessionCallback(Callback):
    """Feeds the progress display, and ends the experiment when a stop was asked for and no trial runs."""

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial finished an iteration."""
        if _present is not None:
            _present.progress.take_result(trial, result)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Tune finished a turn of its loop."""
        if _present is None:
            return
        _present.progress.refresh(trials)
        if _present.stop.requested and not any(trial.status == Trial.RUNNING for trial in trials):
            # Tune ends its loop and saves the experiment's state on this signal, see ray.tune.run.
            signal.raise_signal(signal.SIGUSR1)
