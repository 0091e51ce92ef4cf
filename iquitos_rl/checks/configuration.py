"""The run file: can it be read, and does it hold the three numbers that this site's results rest on."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iquitos_rl.checks.check import CheckFailed, CheckSkipped
from iquitos_rl.config import ConfigError, RunConfig, load_run

__all__ = ["RunFile", "check_carbon", "check_time_step", "check_weights", "read_run"]

CO2_WEIGHT = 0.50
CARBON_INTENSITY_KG_PER_KWH = 0.4521
"""Of Iquitos' isolated thermal grid."""
SECONDS_PER_TIME_STEP = 3600

KEYS = {
    "weights": re.compile(r"reward|_weight"),
    "carbon": re.compile(r"carbon_intensity"),
    "time_step": re.compile(r"seconds_per_time_step"),
}
"""Which lines of a configuration error belong to which check."""


@dataclass(frozen=True)
class RunFile:
    """A run file that was read.

    Attributes:
        config: None if it has mistakes.
        mistakes: one line each.
    """

    config: RunConfig | None
    mistakes: tuple[str, ...] = ()

    def config_for(self, check: str) -> RunConfig:
        """The run, for one of `KEYS`.

        Raises:
            CheckFailed: the file has a mistake that belongs to this check. What belongs to none of the
                three is shown by the first.
            CheckSkipped: the file has other mistakes.
        """
        if self.config is not None:
            return self.config
        belongs = {line: [name for name, key in KEYS.items() if key.search(line)] for line in self.mistakes}
        own = [line for line, names in belongs.items() if (names or ["weights"])[0] == check]
        if own:
            raise CheckFailed("; ".join(own))
        raise CheckSkipped("the run cannot be read")


def read_run(path: Path, overrides: Sequence[str]) -> RunFile:
    """Read a run; its mistakes are findings.

    Raises:
        ConfigError: there is no such file, or what is wrong comes from ``overrides`` alone.
    """
    try:
        return RunFile(load_run(path, overrides))
    except ConfigError as error:
        lines = tuple(str(error).splitlines())
        if not path.is_file() or all(line.startswith("--set") for line in lines):
            raise
        return RunFile(None, lines)


def check_weights(run: RunFile) -> str:
    """The five weights sum to 1, with 0.50 for CO2. Raises CheckFailed or CheckSkipped."""
    reward = run.config_for("weights").reward  # a run whose weights have another sum cannot be read
    shown = " + ".join(f"{weight:g}" for weight in reward.as_tuple())
    if not math.isclose(reward.co2_weight, CO2_WEIGHT):
        raise CheckFailed(
            f"reward: co2_weight is {reward.co2_weight:g}, expected {CO2_WEIGHT:.2f}",
            f"set co2_weight: {CO2_WEIGHT:.2f} in the file that `reward` of the run names; the five sum to 1",
        )
    return f"{shown} = 1, CO2 {reward.co2_weight:.2f}"


def check_carbon(run: RunFile, dataset: Path | None) -> str:
    """The grid's carbon intensity, in the site file and in a dataset that is there.

    Args:
        run: what was read.
        dataset: its folder; None where the run names none.

    Raises:
        CheckFailed: it is another.
        CheckSkipped: the run cannot be read.
    """
    expected = CARBON_INTENSITY_KG_PER_KWH
    site = run.config_for("carbon").site
    if not math.isclose(site.carbon_intensity_kg_per_kwh, expected):
        raise CheckFailed(
            f"site {site.name}: carbon_intensity_kg_per_kwh is {site.carbon_intensity_kg_per_kwh:g}, "
            f"expected {expected:g}",
            f"set carbon_intensity_kg_per_kwh: {expected:g} in the site file",
        )
    for schema, _ in _schemas(dataset):
        from iquitos_rl.site.storage import read_table

        for table in schema.parent.glob("carbon_intensity.*"):
            column = read_table(table)["carbon_intensity"]
            low, high = float(column.min()), float(column.max())
            # CityLearn's tables and the engine's are single precision.
            if not (math.isclose(low, expected, rel_tol=1e-6) and math.isclose(high, expected, rel_tol=1e-6)):
                raise CheckFailed(
                    f"{table}: carbon intensity between {low:g} and {high:g} kg/kWh, expected {expected:g}",
                    _rebuild(dataset),
                )
    return f"{site.carbon_intensity_kg_per_kwh:g} kg CO2/kWh"


def check_time_step(run: RunFile, dataset: Path | None) -> str:
    """An hour per step, in the site file and in the schemas of a dataset that is there; as `check_carbon`."""
    expected = SECONDS_PER_TIME_STEP
    site = run.config_for("time_step").site  # a site file with another step cannot be read
    for schema, description in _schemas(dataset):
        seconds = description.get("seconds_per_time_step")
        if seconds != expected:
            raise CheckFailed(
                f"{schema}: seconds_per_time_step is {seconds}, expected {expected}",
                _rebuild(dataset),
            )
    return f"{site.seconds_per_time_step} s per step"


def _schemas(dataset: Path | None) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Schemas of the years that are there; what is damaged is left to the checks of the dataset."""
    if dataset is None or not dataset.is_dir():
        return
    # Here, because it loads libraries that a check before this one may have found missing.
    from iquitos_rl.site import DatasetError
    from iquitos_rl.site.storage import read_json

    for schema in sorted(dataset.glob("*/year_*/schema.json")):
        try:
            description = read_json(schema)
        except DatasetError:
            continue
        yield schema, description


def _rebuild(dataset: Path | None) -> str:
    return f"build it again: iquitos-rl dataset build --out {dataset} --force"
