"""Does the batch engine equal CityLearn over whole years, on both shipped sites, whatever is asked of it?

    .venv/bin/python experiments/verify_parity.py                              (make verify; about an hour)
    .venv/bin/python experiments/verify_parity.py --site iquitos_station --actions random --steps 240

builds each site's dataset in a temporary folder and simulates the test year with CityLearn and with the batch
engine under equal actions, random, extreme and rule-made ones in turn; rules decide in CityLearn. It prints
the worst deviation |a - b| / max(1, |a|) of every quantity (raw observations, features, states of charge,
energies, cost, emissions, reward ...) and exits 1 if one exceeds 1e-4. The actions are those of the parity
tests (tests/parity/actions.py), so it runs from a checkout only. ``--json`` prints the figures as JSON;
progress goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from iquitos_rl.config import load_site
from iquitos_rl.env.parity import TOLERANCE, Deviation, deviations, differences, record
from iquitos_rl.site import build_dataset
from iquitos_rl.tables import plain_table

ROOT = Path(__file__).resolve().parents[1]
SITES = ("iquitos_station", "iquitos_mall")
ACTIONS = ("random", "extreme", "least_laxity")
SEED = 1


def progress_of(label: str, steps: int) -> Any:
    """Prints how far a recording is, each tenth of it."""
    started = time.perf_counter()

    def report(done: int) -> None:
        if done % max(1, steps // 10) == 0 or done == steps:
            seconds = time.perf_counter() - started
            print(f"{label}: {done} of {steps} steps, {seconds:.0f} s", file=sys.stderr, flush=True)

    return report


def compare(pair: Any, name: str, start: int, steps: int, mask_idle: bool) -> dict[str, Any]:
    """Both engines under the actions of one name: deviations, differences and seconds."""
    from tests.parity import actions

    pair.set_mask(mask_idle)
    started = time.perf_counter()
    made = actions.make(name, pair.citylearn, steps, SEED)
    reference = record(
        pair.citylearn, made, start_step=start, progress=progress_of(f"CityLearn, {name}", steps)
    )
    seconds = {"citylearn": time.perf_counter() - started, "batch": 0.0}
    worst: dict[str, Deviation] = {}
    lines: list[str] = pair.interface_differences()
    for env in pair.batch.values():
        started = time.perf_counter()
        again = record(env, reference.actions, start_step=start)
        seconds["batch"] += time.perf_counter() - started
        lines += differences(reference, again)
        for quantity, deviation in deviations(reference, again).items():
            if quantity not in worst or deviation.relative > worst[quantity].relative:
                worst[quantity] = deviation
    return {"worst": worst, "differences": list(dict.fromkeys(lines)), "seconds": seconds}


def print_table(console: Console, title: str, result: dict[str, Any]) -> None:
    table = plain_table(title)
    for heading in ("quantity", "worst", "CityLearn", "batch", "step"):
        table.add_column(heading, justify="left" if heading == "quantity" else "right")
    for quantity, worst in sorted(result["worst"].items(), key=lambda item: -item[1].relative):
        numbers = (f"{worst.relative:.1e}", f"{worst.a:.6g}", f"{worst.b:.6g}", str(worst.step))
        table.add_row(quantity, *(numbers if worst.relative else ("0", "", "", "")))
    console.print(table)
    for line in result["differences"]:
        console.print(line, style="red", markup=False, highlight=False, soft_wrap=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--site", nargs="+", choices=SITES, default=SITES)
    parser.add_argument("--actions", nargs="+", default=ACTIONS, help="of tests/parity/actions.py")
    parser.add_argument("--steps", type=int, default=8759)
    parser.add_argument("--start", type=int, default=0, help="first row")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))  # tests are not part of the package
    from tests.parity.actions import NAMES
    from tests.parity.pairs import Pair

    unknown = set(arguments.actions) - set(NAMES)
    if unknown:
        parser.error(f"--actions {' '.join(sorted(unknown))}: there are {', '.join(NAMES)}")
    console = Console()
    results: dict[str, dict[str, Any]] = {}
    for site in arguments.site:
        config = load_site(
            ROOT / "ray_configs" / "sites" / f"{site}.yaml", ["years={train: 1, validation: 1, test: 1}"]
        )
        with tempfile.TemporaryDirectory() as folder:
            print(f"{site}: building the dataset and loading CityLearn", file=sys.stderr, flush=True)
            schema = build_dataset(config, Path(folder) / site, SEED).schema_path("test")
            pair = Pair(schema, reference=None, start_step=arguments.start, episode_steps=arguments.steps)
            for number, name in enumerate(arguments.actions):
                # With idle sockets masked and unmasked in turn: both ways of sharing the feeder.
                result = compare(pair, name, arguments.start, arguments.steps, mask_idle=number % 2 == 1)
                results[f"{site}, {name}"] = result
                if not arguments.json:
                    seconds = result["seconds"]
                    title = (
                        f"{site}, {name} actions: {arguments.steps} steps; "
                        f"CityLearn {seconds['citylearn']:.0f} s, batch twice {seconds['batch']:.1f} s"
                    )
                    print_table(console, title, result)
    if arguments.json:
        plain = {
            run: {
                "worst": {name: worst.relative for name, worst in result["worst"].items()},
                "differences": result["differences"],
                "seconds": result["seconds"],
                "steps": arguments.steps,
                "tolerance": TOLERANCE,
            }
            for run, result in results.items()
        }
        print(json.dumps(plain, indent=1))
    return int(any(result["differences"] for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
