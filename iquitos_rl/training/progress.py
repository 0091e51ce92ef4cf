"""The live table of a run: redrawn in place in a terminal, a line now and then in a log file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ray.tune.experiment import Trial
from rich.console import Console
from rich.live import Live
from rich.table import Table

from iquitos_rl.tables import format_duration, plain_table
from iquitos_rl.training.outputs import FAILURE

__all__ = ["ProgressTable", "TrialProgress"]

LOG_INTERVAL_SECONDS = 30.0
"""How often a log file gets lines."""


@dataclass
class TrialProgress:
    """How far one agent is.

    Attributes:
        name: of the agent.
        budget: environment steps it is trained for.
        status: Tune's.
        env_steps: done so far, those before a restore included.
        validation_score: of the last validation; NaN before one.
        validation_satisfaction: likewise.
        failed: whether it ended for a reason of its own; Tune counts it as terminated.
    """

    name: str
    budget: int
    status: str = "PENDING"
    env_steps: int = 0
    validation_score: float = float("nan")
    validation_satisfaction: float = float("nan")
    failed: bool = False
    _first: tuple[float, int] | None = None

    def update(self, result: dict[str, Any], now: float) -> None:
        """Take in a result of Tune's."""
        steps = int(result.get("env_steps", self.env_steps))
        if self._first is None or steps < self.env_steps:  # the first, or after a restart from a checkpoint
            # Counted from the start of the iteration, so that the first result already has a speed.
            begun = now - float(result.get("time_this_iter_s", 0.0))
            speed = float(result.get("env_steps_per_second", 0.0))
            own = round(speed * float(result.get("time_this_iter_s", 0.0)))
            self._first = (begun, max(0, steps - own))
        self.env_steps = steps
        self._last = now
        self.failed = bool(result.get(FAILURE))
        self.validation_score = float(result.get("validation_score", float("nan")))
        self.validation_satisfaction = float(result.get("validation_satisfaction", float("nan")))

    @property
    def steps_per_second(self) -> float:
        """Mean since this process began, validation and checkpoints included; 0 before the first result."""
        if self._first is None:
            return 0.0
        begun, steps = self._first
        return (self.env_steps - steps) / max(self._last - begun, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """At the present speed; None where there is none yet."""
        speed = self.steps_per_second
        return max(0, self.budget - self.env_steps) / speed if speed > 0 else None

    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        left = self.seconds_left
        scored = self.validation_score == self.validation_score  # not NaN
        return (
            self.name,
            "failed" if self.failed else STATES.get(self.status, self.status.lower()),
            f"{self.env_steps:,} / {self.budget:,}",
            f"{100 * min(1.0, self.env_steps / self.budget):.0f} %",
            f"{self.steps_per_second:.1f}" if self.steps_per_second else "-",
            "-" if self.status == "TERMINATED" or left is None else format_duration(left),
            f"{self.validation_score:.3f}" if scored else "-",
            f"{100 * self.validation_satisfaction:.1f} %" if scored else "-",
        )


STATES = {
    "PENDING": "waiting",
    "RUNNING": "training",
    "PAUSED": "saved",
    "TERMINATED": "finished",
    "ERROR": "failed",
}
"""Words for Tune's states."""
HEADINGS = ("agent", "state", "env steps", "done", "steps/s", "time left", "score", "satisf.")
"""The last two are those of the last validation."""


class ProgressTable:
    """Shows the trials of an experiment while they run.

    Args:
        budgets: environment steps by the name of the agent.
        console: where to.
        silent: show nothing.
    """

    def __init__(self, budgets: dict[str, int], console: Console, *, silent: bool = False) -> None:
        self.trials = {name: TrialProgress(name, budget) for name, budget in budgets.items()}
        self._console = console
        self._silent = silent
        self._started = time.monotonic()
        self._last_lines = float("-inf")
        self._live: Live | None = None

    def _progress(self, trial: Trial) -> TrialProgress:
        return self.trials[trial.config["algorithm"]]

    def take_result(self, trial: Trial, result: dict[str, Any]) -> None:
        """A trial finished an iteration."""
        self._progress(trial).update(result, time.monotonic())

    def refresh(self, trials: Sequence[Trial]) -> None:
        """Look at the trials' states and show them."""
        changed = self._refresh_states(trials)
        self._show(changed)

    def _refresh_states(self, trials: Sequence[Trial]) -> list[str]:
        """Take in the trials' states; returns the agents that ended since the last time."""
        ended = []
        for trial in trials:
            progress = self._progress(trial)
            if trial.status != progress.status and trial.status in ("TERMINATED", "ERROR", "PAUSED"):
                ended.append(progress.name)
            progress.status = trial.status
            # A restored trial that is finished already reports nothing more.
            progress.env_steps = max(progress.env_steps, int((trial.last_result or {}).get("env_steps", 0)))
        return ended

    def _show(self, ended: Sequence[str] = ()) -> None:
        if self._silent:
            return
        if self._console.is_terminal:
            if self._live is None:
                self._live = Live(console=self._console, refresh_per_second=2, transient=False)
                self._live.start()
            self._live.update(self.table())
            return
        names: Sequence[str] = ended
        if time.monotonic() - self._last_lines >= LOG_INTERVAL_SECONDS:
            self._last_lines = time.monotonic()
            names = list(self.trials)
        for name in names:
            self._console.print(self.line(name), highlight=False, soft_wrap=True)

    def table(self) -> Table:
        """The table, as a terminal shows it; score and satisfaction are of the last validation."""
        table = plain_table(f"Training, {format_duration(time.monotonic() - self._started)}")
        for number, heading in enumerate(HEADINGS):
            table.add_column(heading, justify="left" if number < 2 else "right", no_wrap=True)
        for progress in self.trials.values():
            table.add_row(*progress.cells())
        return table

    def line(self, agent: str) -> str:
        """The row of one agent for a log file, complete in itself."""
        elapsed = format_duration(time.monotonic() - self._started)
        name, state, steps, done, speed, left, value, satisfaction = self.trials[agent].cells()
        return (
            f"[{elapsed}] {name}: {state}, {steps} env steps ({done}), {speed} steps/s, "
            f"{left} left, validation score {value}, satisfaction {satisfaction}"
        )

    def close(self) -> None:
        """Leave the last state on the screen."""
        if self._live is not None:
            self._live.update(self.table())
            self._live.stop()
            self._live = None
