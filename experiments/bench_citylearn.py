"""How fast the reference engine is: environment steps a second of CityLearn, bare and as our environment.

    .venv/bin/python experiments/bench_citylearn.py            (make bench)

The reference is a bare ``CityLearnEnv``: flat, central agent, its default reward. One process, one thread;
each case is stepped through the same days with full requests, several times in turn, and medians are
printed with the ratio to the reference. ``--json`` prints them as JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from iquitos_rl.config import load_site
from iquitos_rl.env import make_env
from iquitos_rl.site import build_dataset
from iquitos_rl.tables import plain_table

SITE = Path(__file__).resolve().parents[1] / "ray_configs" / "sites" / "iquitos_station.yaml"


def bare_citylearn(schema: Path, steps: int) -> Callable[[], None]:
    from citylearn.citylearn import CityLearnEnv

    env = CityLearnEnv(str(schema), central_agent=True, episode_time_steps=steps + 1, random_seed=0)
    action = [[0.0] + [1.0] * (len(env.action_names[0]) - 1)]

    def run() -> None:
        env.reset()
        for _ in range(steps):
            env.step(action)

    return run


def our_env(schema: Path, steps: int, observation: str) -> Callable[[], None]:
    env = make_env(schema, observation=observation, episode_steps=steps)
    action = env.action_space.high.copy()
    action[0] = 0.0

    def run() -> None:
        env.reset(seed=0)
        for _ in range(steps):
            env.step(action)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=168)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    site = load_site(SITE, ["years={train: 1, validation: 1, test: 1}"])
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        schema = build_dataset(site, Path(folder) / "site", 1).schema_path("test")
        makers = {
            "CityLearnEnv, bare": lambda: bare_citylearn(schema, arguments.steps),
            "ours, raw": lambda: our_env(schema, arguments.steps, "raw"),
            "ours, features": lambda: our_env(schema, arguments.steps, "features"),
        }
        runs = {}
        for name, make in makers.items():
            started = time.perf_counter()
            runs[name] = make()
            rows[name] = {"construction_s": time.perf_counter() - started, "seconds": []}
        for _ in range(arguments.repeats):  # in turn, so that a busy machine slows all of them
            for name, run in runs.items():
                started = time.perf_counter()
                run()
                rows[name]["seconds"].append(time.perf_counter() - started)
    reference = statistics.median(rows["CityLearnEnv, bare"]["seconds"])
    for row in rows.values():
        median = statistics.median(row["seconds"])
        row["env_steps_per_s"] = arguments.steps / median
        row["ratio"] = reference / median
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return
    table = plain_table(f"CityLearn with {site.socket_count} sockets, {arguments.steps} steps and a reset")
    for heading in ("environment", "construction s", "env-steps/s", "ratio"):
        table.add_column(heading, justify="left" if heading == "environment" else "right")
    for name, row in rows.items():
        table.add_row(
            name, f"{row['construction_s']:.1f}", f"{row['env_steps_per_s']:.1f}", f"{row['ratio']:.2f}"
        )
    Console().print(table)


if __name__ == "__main__":
    main()
