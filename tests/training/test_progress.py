"""The display of a run: durations, speeds, a table that is redrawn, log lines that stand alone."""

from __future__ import annotations

from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from iquitos_rl.tables import format_duration
from iquitos_rl.training import progress as module
from iquitos_rl.training.progress import ProgressTable, TrialProgress


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3.0, "0 s"),
        (0.0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (725.0, "12 min 05 s"),
        (3599.7, "1 h 00 min"),
        (12_000.0, "3 h 20 min"),
        (100 * 3600.0, "100 h 00 min"),
    ],
)
def test_durations_for_people(seconds: float, text: str):
    assert format_duration(seconds) == text


def result(
    env_steps: int, *, iteration_seconds: float = 2.0, speed: float = 10.0, **more: Any
) -> dict[str, Any]:
    return {
        "env_steps": env_steps,
        "time_this_iter_s": iteration_seconds,
        "env_steps_per_second": speed,
    } | more


def test_the_first_result_already_has_a_speed():
    progress = TrialProgress("ppo", 200)
    assert progress.steps_per_second == 0.0
    assert progress.seconds_left is None
    progress.update(result(20), now=100.0)
    assert progress.steps_per_second == pytest.approx(10.0)
    assert progress.seconds_left == pytest.approx(18.0)


def test_the_speed_is_the_mean_with_validation_and_checkpoints_in_it():
    progress = TrialProgress("ppo", 200)
    progress.update(result(20), now=100.0)
    progress.update(result(40), now=106.0)  # 8 seconds since the first iteration began
    assert progress.steps_per_second == pytest.approx(40 / 8)
    assert progress.seconds_left == pytest.approx(160 / 5)


def test_after_a_resume_only_this_sessions_steps_count():
    progress = TrialProgress("ppo", 2000)
    progress.update(result(1020), now=100.0)
    assert progress.steps_per_second == pytest.approx(10.0)


def test_a_restart_from_a_checkpoint_begins_a_new_speed():
    progress = TrialProgress("ppo", 200)
    progress.update(result(100, speed=50.0), now=100.0)
    progress.update(result(60, speed=5.0), now=200.0)  # failed after 100, went on from a checkpoint at 50
    assert progress.env_steps == 60
    assert progress.steps_per_second == pytest.approx(5.0)


def test_beyond_the_budget_nothing_is_left_and_done_is_100_percent():
    progress = TrialProgress("ppo", 100)
    progress.update(result(120), now=10.0)
    assert progress.seconds_left == 0.0
    assert "100 %" in progress.cells()


def test_before_a_validation_there_is_no_score_to_show():
    progress = TrialProgress("ppo", 100)
    progress.update(result(20), now=10.0)
    assert progress.cells()[-2:] == ("-", "-")
    progress.update(result(40, validation_score=0.876, validation_satisfaction=0.9), now=12.0)
    assert progress.cells()[-2:] == ("0.876", "90.0 %")


@pytest.mark.parametrize(
    ("status", "word"),
    [
        ("PENDING", "waiting"),
        ("RUNNING", "training"),
        ("PAUSED", "saved"),
        ("TERMINATED", "finished"),
        ("ERROR", "failed"),
        ("SOMETHING_NEW", "something_new"),
    ],
)
def test_states_in_words(status: str, word: str):
    assert TrialProgress("ppo", 100, status=status).cells()[1] == word


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def trial(algorithm: str, status: str = "RUNNING", env_steps: int | None = None) -> Any:
    last = None if env_steps is None else {"env_steps": env_steps}
    return SimpleNamespace(config={"algorithm": algorithm}, status=status, last_result=last)


def table(terminal: bool, **options: Any) -> tuple[ProgressTable, StringIO]:
    file = StringIO()
    console = Console(file=file, force_terminal=terminal, width=80)
    return ProgressTable({"a2c": 500_000, "ppo": 500_000}, console, **options), file


def test_in_a_terminal_the_table_is_redrawn_and_its_last_state_stays(clock: Clock):
    display, file = table(terminal=True)
    trials = [trial("a2c"), trial("ppo", "PENDING")]
    display.refresh(trials)
    display.take_result(trials[0], result(480_000, validation_score=0.75, validation_satisfaction=0.991))
    trials[0].status = "TERMINATED"
    display.refresh(trials)
    display.close()
    text = file.getvalue()
    last = text[text.rindex("Training,") :]
    assert "480,000 / 500,000" in last
    assert "finished" in last
    assert "waiting" in last
    assert "0.750" in last
    assert "99.1 %" in last
    display.close()  # a second time does nothing


def test_the_table_fits_in_80_columns_with_nothing_cut_off(clock: Clock):
    display, _ = table(terminal=False)
    for name in ("a2c", "ppo"):
        display.take_result(
            trial(name),
            result(499_999, speed=1234.5, validation_score=12.345, validation_satisfaction=1.0),
        )
    display._refresh_states([trial("a2c", "RUNNING", 499_999), trial("ppo", "RUNNING", 3)])
    console = Console(file=StringIO(), width=80)
    console.print(display.table())
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "…" not in text
    assert "499,999 / 500,000" in text


def test_a_log_gets_lines_that_are_complete_in_themselves(clock: Clock):
    display, file = table(terminal=False)
    running = trial("a2c", env_steps=240)
    display.take_result(running, result(240, validation_score=0.9, validation_satisfaction=0.5))
    clock.now += 65
    display.refresh([running, trial("ppo", "PENDING")])
    lines = file.getvalue().splitlines()
    assert len(lines) == 2
    first = lines[0]
    for part in (
        "1 min 05 s",
        "a2c",
        "training",
        "240 / 500,000 env steps",
        "score 0.900",
        "satisfaction 50.0 %",
    ):
        assert part in first
    assert "ppo: waiting" in lines[1]
    assert "\x1b" not in file.getvalue()
    assert "\r" not in file.getvalue()


def test_a_log_gets_lines_only_every_so_often(clock: Clock):
    display, file = table(terminal=False)
    trials = [trial("a2c"), trial("ppo")]

    def lines() -> int:
        display.refresh(trials)
        return len(file.getvalue().splitlines())

    assert lines() == 2
    clock.now += module.LOG_INTERVAL_SECONDS - 1
    assert lines() == 2
    clock.now += 1
    assert lines() == 4
    display.close()
    assert lines() == 4


def test_the_end_of_an_agent_is_logged_at_once_and_once(clock: Clock):
    display, file = table(terminal=False)
    trials = [trial("a2c"), trial("ppo")]
    display.refresh(trials)
    clock.now += 1
    trials[1].status = "ERROR"
    for _ in range(3):
        display.refresh(trials)
    lines = file.getvalue().splitlines()[2:]
    assert len(lines) == 1
    assert "ppo: failed" in lines[0]


def test_a_silent_display_says_nothing(clock: Clock):
    for terminal in (True, False):
        display, file = table(terminal=terminal, silent=True)
        display.refresh([trial("a2c"), trial("ppo", "ERROR")])
        display.close()
        assert file.getvalue() == ""


def test_a_restored_trial_that_reports_nothing_more_shows_what_it_had(clock: Clock):
    display, _ = table(terminal=False)
    display.refresh([trial("a2c", "TERMINATED", 500_000), trial("ppo", "PENDING")])
    assert "500,000 / 500,000 env steps (100 %)" in display.line("a2c")
