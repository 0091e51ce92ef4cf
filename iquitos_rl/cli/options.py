"""Options, defaults and consoles that commands share."""

from __future__ import annotations

import enum
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from iquitos_rl.tables import WIDTH

DEFAULT_SITE = Path("ray_configs/sites/iquitos_station.yaml")
DEFAULT_RUN = Path("ray_configs/runs/train_all.yaml")
REPORT_RUN = Path("ray_configs/runs/train_report.yaml")
DEFAULT_REWARD = Path("ray_configs/reward.yaml")
DEFAULT_DATASET = Path("datasets/iquitos_station")
DEFAULT_SEED = 2026
BAD_INPUT = 2

# No markup: names of folders may have brackets.
out = Console(width=None if sys.stdout.isatty() else WIDTH, markup=False, emoji=False)
err = Console(stderr=True, markup=False, emoji=False)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a key: --set a.b=c (repeatable).", metavar="KEY=VALUE"),
]
DatasetPath = Annotated[Path, typer.Argument(help="Folder of the dataset.")]


class EngineChoice(enum.StrEnum):
    """What ``--engine`` takes."""

    batch = "batch"
    citylearn = "citylearn"


EngineName = Annotated[
    EngineChoice, typer.Option("--engine", help="What simulates: citylearn is the slow reference.")
]
DEFAULT_ENGINE = EngineChoice.batch
Address = Annotated[str, typer.Option(help="local (a Ray of its own), auto, or HOST:PORT of a cluster.")]
Dashboard = Annotated[bool, typer.Option(help="Whether a local Ray gets a dashboard, on loopback.")]


def print_json(value: Any) -> None:
    """Print one JSON value on stdout."""
    typer.echo(json.dumps(value, indent=1))
