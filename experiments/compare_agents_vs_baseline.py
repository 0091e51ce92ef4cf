"""Trained agents beside no control, rules and the optimum: evaluates an experiment's newest checkpoints anew.

    .venv/bin/python experiments/compare_agents_vs_baseline.py [RUN_YAML] [--set key.key=value ...]

The same as ``iquitos-rl train --run RUN_YAML --eval-only`` and then ``iquitos-rl compare NAME``: nothing is
trained. Results, ``comparison.json`` and ``report.html`` go to the run's output folder.
"""

from __future__ import annotations

import argparse

from rich.console import Console

from iquitos_rl.config import load_run
from iquitos_rl.evaluation.console import comparison_table
from iquitos_rl.training import train


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="?", default="ray_configs/runs/train_all.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    options = parser.parse_args()

    run = load_run(options.run, options.overrides)
    outcome = train(run, eval_only=True)
    Console().print(comparison_table(outcome.comparison, demonstration=run.demonstration))


if __name__ == "__main__":
    main()
