"""Is nothing below the oracle, in any year, and does planning with forecasts pay?

    .venv/bin/python experiments/verify_ladder.py datasets/iquitos_station [--mpc-years 2]     (make verify)

For every year of the dataset (seven seeds: five training years, validation, test) the score of every rule of
the ladder, of random control, of searches over rules that cheat (they cycle the BESS, give it back early, top
vehicles up by night, dump what they stored; the best rule too cheats in some hours) and of the oracle; on the
last years also of the MPC. Exits 1 if a score is not above the oracle's, or the MPC's is not below that of
laxity_first. Half an hour on one core. The rules that cheat are those of the tests, so it runs from a
checkout only.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console

from iquitos_rl.control import Controller, Mpc, load_controller
from iquitos_rl.evaluation import Evaluator
from iquitos_rl.evaluation.ladder import LADDER
from iquitos_rl.site import load_dataset
from iquitos_rl.site.timeline import Split
from iquitos_rl.tables import plain_table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.control.any_rule import AnyRule, CheatingBestRule

RULES = [name for name in (*LADDER, "random") if not name.startswith(("oracle", "mpc"))]
SEARCHED = 40
CHEATS: dict[str, Callable[[int], Controller]] = {
    f"best of {SEARCHED} cheats": AnyRule,
    "... of the best rule": CheatingBestRule,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path, nargs="?", default=Path("datasets/iquitos_station"))
    parser.add_argument("--mpc-years", type=int, default=2, help="on how many years, from the last on")
    options = parser.parse_args()

    dataset = load_dataset(options.dataset)
    years = dataset.all_years()
    columns = [*RULES, *CHEATS, "mpc", "oracle"]
    scores: dict[tuple[Split, int], dict[str, float]] = {}
    seconds: dict[tuple[Split, int], float] = {}
    for split, year in years:
        evaluator = Evaluator(dataset, split=split, year=year)
        found = {name: evaluator.evaluate(load_controller(name)).kpis["score"] for name in [*RULES, "oracle"]}
        for name, cheat in CHEATS.items():
            scored = [evaluator.evaluate(cheat(seed)).kpis["score"] for seed in range(SEARCHED)]
            found[name] = min(scored)
        if (split, year) in years[len(years) - options.mpc_years :]:
            mpc = Mpc()
            found["mpc"] = evaluator.evaluate(mpc).kpis["score"]
            seconds[split, year] = float(np.percentile(mpc.solve_seconds, 99))
        scores[split, year] = found
        print(f"{split} {year}: {found}", file=sys.stderr, flush=True)

    table = plain_table(f"Scores on every year of {dataset.site.name}, seed {dataset.seed}")
    table.add_column("controller", no_wrap=True)
    for split, year in years:
        table.add_column(f"{split[:5]}\n{year}", justify="right")
    for name in columns:
        row = [f"{found[name]:.4f}" if name in found else "" for found in scores.values()]
        table.add_row(name, *row)
    Console(width=None if sys.stdout.isatty() else 90).print(table)

    wrong = [
        f"{split} {year}: {name} {score:.5f} is not above the oracle's {found['oracle']:.5f}"
        for (split, year), found in scores.items()
        for name, score in found.items()
        if name != "oracle" and score <= found["oracle"]
    ]
    for (split, year), found in scores.items():
        if "mpc" in found:
            print(
                f"{split} {year}: mpc is {found['mpc'] - found['best_rule']:+.4f} from best_rule; "
                f"99 % of its solves took {seconds[split, year]:.3f} s at most"
            )
            if found["mpc"] >= found["laxity_first"]:
                wrong.append(f"{split} {year}: mpc {found['mpc']:.5f} is not below laxity_first")
    for line in wrong or ["The oracle is below everything in every year, the MPC below laxity_first."]:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
