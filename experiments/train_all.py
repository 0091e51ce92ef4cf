"""Train A2C, SAC and PPO side by side, evaluate them on the unseen test year, and compare them.

    .venv/bin/python experiments/train_all.py

The same as ``iquitos-rl train --run ray_configs/runs/train_all.yaml --resume``, as a program of a few
lines: start from it where the command line's options do not suffice.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from iquitos_rl.config import load_run
from iquitos_rl.evaluation.console import comparison_table
from iquitos_rl.training import train

RUN = Path(__file__).resolve().parents[1] / "ray_configs" / "runs" / "train_all.yaml"


def main() -> int:
    run = load_run(RUN, overrides=sys.argv[1:])  # e.g. stop.env_steps=2048 name=short
    outcome = train(run, resume=True)
    if outcome.comparison:
        Console().print(comparison_table(outcome.comparison, demonstration=run.demonstration))
    return 0 if outcome.finished else 1


if __name__ == "__main__":
    sys.exit(main())
