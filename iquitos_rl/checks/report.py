"""What a validation found, as a table and as plain values."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from iquitos_rl.checks.check import FAST, Outcome, Result
from iquitos_rl.tables import plain_table

__all__ = ["Report"]

MEANING = {
    0: "no check failed or warned",
    1: "warnings: training works, see them",
    2: "errors: training would fail, or its results would not be this site's",
}


@dataclass(frozen=True)
class Report:
    """The results of all checks.

    Attributes:
        run: the run file.
        dataset: folder of the dataset; empty where the run could not be read.
        fast: whether what starts Ray was left out.
        results: of every check, in order.
        seconds: that all took.
    """

    run: str
    dataset: str
    fast: bool
    results: tuple[Result, ...]
    seconds: float

    def count(self, outcome: Outcome) -> int:
        """Number of checks that ended so."""
        return Counter(result.outcome for result in self.results)[outcome]

    @property
    def exit_code(self) -> int:
        """0 if no check failed or warned, 1 with warnings, 2 with failures. Skipped checks do not count."""
        if self.count(Outcome.failed):
            return 2
        return 1 if self.count(Outcome.warning) else 0

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "run": self.run,
            "dataset": self.dataset,
            "fast": self.fast,
            "exit_code": self.exit_code,
            "meaning": MEANING[self.exit_code],
            "counts": {"total": len(self.results)} | {str(o): self.count(o) for o in Outcome},
            "seconds": self.seconds,
            "checks": [vars(result) for result in self.results],
        }

    def print(self, console: Console) -> None:
        """Show the table, then in full what failed or warned and what to do about it, then the counts."""
        console.print(self._table(), highlight=False)
        for line in (*self._findings(), self.summary()):
            console.print(line, highlight=False, soft_wrap=True, markup=False)

    def _table(self) -> Table:
        """One line for each check, in its phase."""
        table = plain_table(f"Validation of {self.run}")
        table.add_column("", justify="right", no_wrap=True)
        table.add_column("check", no_wrap=True)
        table.add_column("", no_wrap=True)
        table.add_column("what was found", overflow="fold")
        phase = ""
        for result in self.results:
            if result.phase != phase:
                phase = result.phase
                table.add_row("", phase.upper(), "", "")
            below = result.outcome in (Outcome.failed, Outcome.warning)
            table.add_row(
                str(result.number),
                result.title,
                str(result.outcome),
                "see below" if below else result.detail,
            )
        return table

    def _findings(self) -> list[str]:
        """What failed and what is to be known, each with what to do: long lines for the end of the output."""
        lines = []
        for result in self.results:
            if result.outcome in (Outcome.failed, Outcome.warning):
                lines.append(f"{result.number} {result.title}: {result.outcome}: {result.detail}")
                if result.remedy:
                    lines.append(f"   {result.remedy}")
        return lines

    def summary(self) -> str:
        """The last line."""
        counts = [f"{self.count(Outcome.passed)} of {len(self.results)} passed"]
        warnings, failed, skipped = (
            self.count(outcome) for outcome in (Outcome.warning, Outcome.failed, Outcome.skipped)
        )
        if warnings:
            counts.append(f"{warnings} with a warning")
        if failed:
            counts.append(f"{failed} failed")
        if skipped:
            by_fast = sum(result.detail == FAST for result in self.results)
            counts.append(
                f"{skipped} skipped" + (f" ({by_fast} by --fast: they start Ray)" if by_fast else "")
            )
        return f"{', '.join(counts)}, in {self.seconds:.0f} s"
