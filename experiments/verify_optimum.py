"""Is the optimum what it claims to be, on the reference site and over whole years?

    .venv/bin/python experiments/verify_optimum.py --dataset datasets/iquitos_station   (two minutes)

- solves a year at once and in blocks of a week: seconds, and the gap between the two;
- replays the year's schedule on the batch engine: the KPIs agree with the programme's to 0.1 %;
- ten weeks against a mixed-integer programme that forbids charging and discharging at once: 0.1 %;
- satisfaction first, satisfaction >= 91 %, and the frontier between import and satisfaction.

Exits 1 if a bar is missed. ``--json`` prints the figures as JSON. Times are of one core that has nothing else
to do; set OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.console import Console

from iquitos_rl.config.reward import RewardWeights
from iquitos_rl.control.optimum.goal import score_goal
from iquitos_rl.control.optimum.optimum import Optimum, frontier, solve_optimum
from iquitos_rl.control.optimum.plan import plan_of
from iquitos_rl.control.optimum.programme import Programme
from iquitos_rl.control.optimum.replay import replay
from iquitos_rl.control.optimum.window import window_of
from iquitos_rl.env.batch.years import SiteYears, load_years
from iquitos_rl.objectives import score
from iquitos_rl.site import load_dataset
from iquitos_rl.tables import plain_table

WEIGHTS = RewardWeights()
WEEK = 168
WEEKS = (2, 7, 12, 17, 22, 27, 32, 37, 42, 47)
BAR_SHARE = 1e-3
BAR_SECONDS = 60.0


def timed(what: str, call: Any) -> tuple[Any, float]:
    started = time.perf_counter()
    result = call()
    seconds = time.perf_counter() - started
    print(f"{what}: {seconds:.1f} s", file=sys.stderr, flush=True)
    return result, seconds


def row(name: str, best: Optimum, seconds: float) -> dict[str, Any]:
    kpis = best.plan.kpis
    names = ("grid_import_kwh", "co2_net_kg", "solar_utilisation", "ev_satisfaction", "mean_daily_peak_kw")
    return {"optimum": name, **{n: kpis[n] for n in names}, "score": best.score, "seconds": seconds}


def week(years: SiteYears, no_control: Any, number: int) -> dict[str, float]:
    """Both programmes of a week."""
    reference = no_control.reference(number * WEEK, WEEK)
    window = window_of(years, 0, number * WEEK, WEEK)
    programme = Programme(window, score_goal(window, reference, WEIGHTS))
    scores, seconds = [], []
    for forbid in (False, True):
        schedule, passed = timed(
            f"week {number}", lambda forbid=forbid: programme.solve(forbid_simultaneous=forbid)
        )
        scores.append(score(plan_of(window, schedule).objectives, reference, WEIGHTS)[0])
        seconds.append(passed)
    return {
        "week": number,
        "linear": scores[0],
        "mixed_integer": scores[1],
        "gap": abs(scores[1] / scores[0] - 1),
        "linear_s": seconds[0],
        "mixed_integer_s": seconds[1],
    }


def replay_deviation(years: SiteYears, best: Optimum) -> dict[str, float]:
    """Relative difference between the programme's KPIs and the engine's; of kWh, at least of 1 kWh."""
    kpis, _ = replay(years, 0, 0, best.actions)
    deviations = {}
    for name, planned in best.plan.kpis.items():
        replayed = kpis[name]
        if planned is not None and replayed is not None:
            deviations[name] = abs(replayed - planned) / (abs(planned) if abs(planned) > 1e-3 else 1.0)
    return deviations


def verify(folder: str, split: str, year: int) -> tuple[dict[str, Any], list[str]]:
    """The figures, and the bars that were missed."""
    dataset = load_dataset(folder)
    years = load_years([dataset.schema_path(split, year)])
    no_control = dataset.no_control(split, year)
    reference = no_control.reference()

    def solve(**options: Any) -> Optimum:
        return solve_optimum(years, reference=reference, weights=WEIGHTS, **options)

    tables = []
    found: dict[str, Optimum] = {}
    for name, options in {
        "score": {},
        "score, blocks of 7 days": {"block_days": 7},
        "score, satisfaction first": {"least_satisfaction": "most"},
        "import, satisfaction first": {"minimise": "import", "least_satisfaction": "most"},
        "import, satisfaction >= 91 %": {"minimise": "import", "least_satisfaction": 0.91},
    }.items():
        found[name], seconds = timed(name, lambda options=options: solve(**options))
        tables.append(row(name, found[name], seconds))
    gap = found["score, blocks of 7 days"].score / found["score"].score - 1
    deviations = replay_deviation(years, found["score"])
    weeks = [week(years, no_control, number) for number in WEEKS]
    points, seconds = timed("frontier", lambda: frontier(window_of(years)))
    missed = []
    if tables[0]["seconds"] > BAR_SECONDS:
        missed.append(f"a year takes {tables[0]['seconds']:.0f} s")
    if not -1e-6 < gap < BAR_SHARE:
        missed.append(f"blocks and the whole year differ by {gap:.1e}")
    missed += [f"replayed {name} differs by {d:.1e}" for name, d in deviations.items() if d > BAR_SHARE]
    missed += [f"week {w['week']}: {w['gap']:.1e} from the MILP" for w in weeks if w["gap"] > BAR_SHARE]
    return {
        "optima": tables,
        "block_gap": gap,
        "replay": deviations,
        "weeks": weeks,
        "frontier": [asdict(point) for point in points],
        "frontier_s": seconds,
    }, missed


def print_figures(figures: dict[str, Any]) -> None:
    console = Console(width=120)
    for title, rows in (("One year", figures["optima"]), ("Weeks", figures["weeks"])):
        table = plain_table(title)
        for name in rows[0]:
            table.add_column(name)
        for entry in rows:
            table.add_row(*(f"{v:.6g}" if isinstance(v, float) else str(v) for v in entry.values()))
        console.print(table)
    worst = max(figures["replay"], key=figures["replay"].get)
    console.print(f"blocks of 7 days against all at once: {figures['block_gap']:.1e}")
    console.print(f"replay: worst of all KPIs {worst}, {figures['replay'][worst]:.1e}")
    console.print(f"frontier ({figures['frontier_s']:.0f} s):")
    for point in figures["frontier"]:
        console.print(f"  {100 * point['satisfaction']:.2f} %  {point['grid_import_kwh'] / 1000:.1f} MWh")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dataset", default="datasets/iquitos_station")
    parser.add_argument("--split", default="test")
    parser.add_argument("--year", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    figures, missed = verify(arguments.dataset, arguments.split, arguments.year)
    if arguments.json:
        print(json.dumps({**figures, "missed": missed}, indent=2, default=np.ndarray.tolist))
    else:
        print_figures(figures)
    for line in missed:
        print(f"missed: {line}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
