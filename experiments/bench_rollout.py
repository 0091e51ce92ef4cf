"""How long is a year of a rule: all days side by side, against the same engine hour by hour?

    .venv/bin/python experiments/bench_rollout.py [DATASET]

Both give the very same flows, which is checked. Medians of three, taken in turns; one core. Exits 1 if the
flows differ.
"""

from __future__ import annotations

import sys
import time
from statistics import median
from typing import Any

from rich.console import Console

from iquitos_rl.control import Rule, load_controller
from iquitos_rl.control.best_rule import BestRule
from iquitos_rl.env import make_env
from iquitos_rl.evaluation.rollout import Rollout, rollout
from iquitos_rl.site import load_dataset
from iquitos_rl.tables import plain_table

NAMES = ("no_control", "plug_and_charge", "laxity_first", "best_rule")
REPEATS = 3


class Remembering:
    """The same controller, of which it is not known that it has no memory."""

    memoryless = False

    def __init__(self, controller: Any) -> None:
        self._controller = controller

    def __getattr__(self, name: str) -> Any:
        return getattr(self._controller, name)


def timed(env: Any, controller: Any) -> tuple[Rollout, float]:
    started = time.perf_counter()
    result = rollout(env, controller, 0)
    return result, time.perf_counter() - started


def main(path: str = "datasets/iquitos_station") -> int:
    env = make_env(load_dataset(path).schema_path("test"))
    table = plain_table("A year of a rule on the batch engine, one core")
    for heading in ("rule", "days side by side, s", "hour by hour, s", "ratio"):
        table.add_column(heading, justify="right")
    equal = True
    for name in NAMES:
        controller = load_controller(name)
        assert isinstance(controller, Rule | BestRule)
        pairs = [(timed(env, controller), timed(env, Remembering(controller))) for _ in range(REPEATS)]
        equal &= all(together.hours.equals(single.hours) for (together, _), (single, _) in pairs)
        fast, slow = (median(pair[which][1] for pair in pairs) for which in (0, 1))
        table.add_row(name, f"{fast:.2f}", f"{slow:.2f}", f"{slow / fast:.1f}")
    Console(width=None if sys.stdout.isatty() else 78).print(table)
    print("The flows are equal." if equal else "The flows differ.")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
