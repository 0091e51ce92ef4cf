"""One check: what it is, how it can end, and the runner that lets none of them crash the others."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = [
    "FAST",
    "Check",
    "CheckFailed",
    "CheckSkipped",
    "Outcome",
    "Result",
    "Say",
    "Warned",
    "run_checks",
]

Say = Callable[[str], None]
"""Told what is going on, one line at a time."""

FAST = "--fast: this check starts Ray"
"""Why a check was skipped that the user did not want to wait for."""


class Outcome(enum.StrEnum):
    """How a check ended."""

    passed = "passed"
    warning = "warning"
    failed = "failed"
    skipped = "skipped"


class CheckFailed(Exception):  # noqa: N818 - what a check finds is no error of the program
    """What a check found wrong, and what to do about it.

    Args:
        reason: one line: what is wrong, and where.
        remedy: one line: what to do; empty where the reason says it.
    """

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.remedy = remedy


class CheckSkipped(Exception):  # noqa: N818 - see CheckFailed
    """A check that cannot be made; the text says why."""


@dataclass(frozen=True)
class Warned:
    """What a check found that works but that the user should know; `remedy` as in `CheckFailed`."""

    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class Check:
    """A check that can be made.

    Attributes:
        id: a name for programs.
        phase: the part of the validation it belongs to.
        title: what is checked, for people.
        make: makes the check; returns what was found, and raises `CheckFailed` or `CheckSkipped`.
        starts_ray: whether it needs a running Ray.
    """

    id: str
    phase: str
    title: str
    make: Callable[[], str | Warned]
    starts_ray: bool = False


@dataclass(frozen=True)
class Result:
    """How a check ended.

    Attributes:
        number: its place among all checks, from 1.
        id, phase, title: the check's.
        outcome: how it ended.
        detail: what was found, or why it failed or was skipped.
        remedy: what to do; empty where there is nothing to do, or where the detail says it.
        seconds: how long it took.
    """

    number: int
    id: str
    phase: str
    title: str
    outcome: Outcome
    detail: str
    remedy: str
    seconds: float


def run_checks(checks: Sequence[Check], *, fast: bool = False, say: Say = lambda text: None) -> list[Result]:
    """Make the checks in order.

    An exception of any kind is a failure of its check, with its text as the reason; only Ctrl-C gets through.

    Args:
        checks: what to check.
        fast: skip the checks that start Ray.
        say: told about each check.
    """
    results = []
    for number, check in enumerate(checks, start=1):
        say(f"{number} of {len(checks)}: {check.phase}, {check.title}")
        started = time.perf_counter()
        outcome, detail, remedy = (Outcome.skipped, FAST, "") if fast and check.starts_ray else _make(check)
        seconds = round(time.perf_counter() - started, 2)
        results.append(Result(number, check.id, check.phase, check.title, outcome, detail, remedy, seconds))
    return results


def _make(check: Check) -> tuple[Outcome, str, str]:
    try:
        found = check.make()
    except CheckFailed as error:
        return Outcome.failed, str(error), error.remedy
    except CheckSkipped as error:
        return Outcome.skipped, str(error), ""
    except Exception as error:
        # Ray and torch raise many kinds. Errors that a user can cause say themselves what to do.
        text = (str(error).strip().splitlines() or [""])[0]
        kind = type(error).__name__
        if isinstance(error, ValueError) and text:
            return Outcome.failed, text, ""
        return Outcome.failed, f"{kind}: {text}" if text else kind, ""
    if isinstance(found, Warned):
        return Outcome.warning, found.detail, found.remedy
    return Outcome.passed, found, ""
