"""How a check can end, and that nothing a check does ends the others."""

from __future__ import annotations

import pytest

from iquitos_rl.checks.check import Check, CheckFailed, CheckSkipped, Outcome, Warned, run_checks
from iquitos_rl.checks.report import Report
from tests.checks.conftest import made


def fails(error: BaseException):
    def check() -> str:
        raise error

    return check


@pytest.mark.parametrize(
    ("check", "outcome", "detail", "remedy"),
    [
        (lambda: "found", Outcome.passed, "found", ""),
        (lambda: Warned("odd", "look"), Outcome.warning, "odd", "look"),
        (fails(CheckFailed("wrong", "mend it")), Outcome.failed, "wrong", "mend it"),
        (fails(CheckSkipped("no data")), Outcome.skipped, "no data", ""),
        (fails(ValueError("x.yaml: a: 3 is bad\nmore")), Outcome.failed, "x.yaml: a: 3 is bad", ""),
        (fails(ZeroDivisionError("by zero")), Outcome.failed, "ZeroDivisionError: by zero", ""),
        (fails(MemoryError()), Outcome.failed, "MemoryError", ""),
    ],
)  # fmt: skip
def test_how_a_check_ends(check, outcome, detail, remedy):
    result = made(check)
    assert (result.outcome, result.detail, result.remedy) == (outcome, detail, remedy)


def test_ctrl_c_is_no_finding():
    with pytest.raises(KeyboardInterrupt):
        made(fails(KeyboardInterrupt()))


def test_the_checks_after_a_crash_are_made_and_numbered():
    said: list[str] = []
    checks = [Check("a", "p", "A", fails(OSError("gone"))), Check("b", "p", "B", lambda: "fine")]
    results = run_checks(checks, say=said.append)
    assert [(r.number, r.id, str(r.outcome)) for r in results] == [(1, "a", "failed"), (2, "b", "passed")]
    assert said == ["1 of 2: p, A", "2 of 2: p, B"]


def test_fast_makes_no_check_that_starts_ray_and_says_so():
    checks = [
        Check("a", "p", "A", fails(AssertionError("was made")), starts_ray=True),
        Check("b", "p", "B", lambda: "fine"),
    ]
    skipped, passed = run_checks(checks, fast=True)
    assert (skipped.outcome, passed.outcome) == (Outcome.skipped, Outcome.passed)
    assert "--fast" in skipped.detail
    assert "Ray" in skipped.detail
    report = Report("run.yaml", "", True, (skipped, passed), 0.0)
    assert report.exit_code == 0
    assert report.summary().startswith("1 of 2 passed, 1 skipped (1 by --fast")


@pytest.mark.parametrize(
    ("checks", "code"),
    [
        ([lambda: "a", lambda: "b"], 0),
        ([lambda: "a", fails(CheckSkipped("c"))], 0),
        ([lambda: "a", lambda: Warned("b")], 1),
        ([lambda: Warned("b"), fails(CheckFailed("c"))], 2),
    ],
)
def test_the_exit_code_is_that_of_the_worst_check(checks, code):
    results = run_checks([Check("x", "p", "X", check) for check in checks])
    report = Report("run.yaml", "data", False, tuple(results), 1.0)
    assert report.exit_code == code
    assert report.to_json()["exit_code"] == code
    counts = report.to_json()["counts"]
    assert counts["total"] == sum(counts[str(outcome)] for outcome in Outcome) == len(checks)
