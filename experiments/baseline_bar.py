"""The reference site's no-control year on fresh seeds: does it have the totals it is meant to have?

    .venv/bin/python experiments/baseline_bar.py --seeds 1 2 3 4 5

builds a dataset for each seed in a temporary folder and prints the test year's closed-form values beside
the bar (420 MWh +-3 %, solar 40 +-2 points, satisfaction 78 +-2 points). ``--citylearn`` also simulates the
first seed's year with CityLearn (some minutes). Exits 1 if a seed misses the bar.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from iquitos_rl.config import load_site
from iquitos_rl.site import build_dataset
from iquitos_rl.tables import plain_table

SITE = Path(__file__).resolve().parents[1] / "ray_configs" / "sites" / "iquitos_station.yaml"
BAR = {
    "grid_import_kwh": (420_000 * 0.97, 420_000 * 1.03),
    "solar_utilisation": (0.38, 0.42),
    "ev_satisfaction": (0.76, 0.80),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--citylearn", action="store_true")
    arguments = parser.parse_args()
    table = plain_table("No control, test year")
    for heading in ("seed", "engine", "import MWh", "solar used", "satisfaction", "net CO2 t", "in the bar"):
        table.add_column(heading, justify="right")
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(arguments.seeds):
            dataset = build_dataset(load_site(SITE), Path(folder) / f"seed_{seed}", seed)
            results = [dataset.no_control_totals("test")]
            if arguments.citylearn and number == 0:
                from iquitos_rl.control import load_controller
                from iquitos_rl.evaluation import evaluate

                results.append(evaluate(load_controller("no_control"), dataset, engine="citylearn").kpis)
            for kpis in results:
                met = all(low <= kpis[name] <= high for name, (low, high) in BAR.items())
                missed += not met
                table.add_row(
                    str(seed),
                    kpis["engine"],
                    f"{kpis['grid_import_kwh'] / 1000:.1f}",
                    f"{100 * kpis['solar_utilisation']:.1f} %",
                    f"{100 * kpis['ev_satisfaction']:.1f} %",
                    f"{kpis['co2_net_kg'] / 1000:+.1f}",
                    "yes" if met else "NO",
                )
    Console().print(table)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
