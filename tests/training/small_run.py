"""A site of four sockets and a run of seconds, for tests that train: the shipped YAML with small numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from iquitos_rl.config import RunConfig, load_run, load_site
from iquitos_rl.site import Dataset, build_dataset
from iquitos_rl.training.cluster import connect

ROOT = Path(__file__).parents[2]
SEED = 7

RLLIB_WARNING = "ignore:.*Overriding environment rllib-single-agent-env-v0:UserWarning"
"""RLlib registers every environment under this one name."""


def small_site(**changes: Any) -> dict[str, Any]:
    """The shipped station with 3 + 1 sockets, all else scaled down to them; changes replace sections."""
    site = yaml.safe_load((ROOT / "ray_configs/sites/iquitos_station.yaml").read_text(encoding="utf-8"))
    for sockets, count in zip(site["sockets"], (3, 1), strict=True):
        sockets["count"] = count
    site |= {"name": "small_site", "feeder_limit_kw": 5.0, "years": {"train": 1, "validation": 1, "test": 1}}
    site["load"]["annual_kwh"] = 12_000
    site["pv"] |= {"nominal_power_kwp": 16, "inverter_power_kw": 16}
    site["bess"] |= {"capacity_kwh": 20, "nominal_power_kw": 12}
    return site | changes


def write_site(folder: Path, **changes: Any) -> Path:
    """The small site as YAML in ``folder``."""
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump(small_site(**changes)), encoding="utf-8")
    return path


def write_run(folder: Path, **changes: Any) -> Path:
    """A run on the small site in ``folder``: it extends the shipped demonstration; changes replace its keys.

    An iteration is 24 steps; validation on two days, evaluation on two others.
    """
    write_site(folder)
    run: dict[str, Any] = {
        "extends": str(ROOT / "ray_configs/runs/quick.yaml"),
        "name": "small",
        "site": "site.yaml",
        "dataset": {"seed": SEED, "path": str(folder / "datasets/small_site")},
        "algorithms": {
            "a2c": {"n_steps": 24, "minibatch_size": 12, "hidden": [8]},
            "sac": {
                "warmup_steps": 8,
                "batch_size": 8,
                "buffer_size": 500,
                "steps_per_iteration": 24,
                "hidden": [8],
            },
            "ppo": {"n_steps": 24, "minibatch_size": 12, "epochs": 2, "hidden": [8]},
        },
        "environment": {"episode_steps": 24},
        "stop": {"env_steps": 96},
        "checkpoint": {"every_env_steps": 36, "keep": 2},
        "validation": {
            "every_fraction": 0.5,
            "windows": [{"start_day": 0, "steps": 24}, {"start_day": 100, "steps": 24}],
        },
        "evaluation": {"window": {"start_day": 2, "steps": 48}},
        "storage_path": str(folder / "runs"),
        "output_path": str(folder / "outputs"),
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(run | changes), encoding="utf-8")
    return path


def make_run(folder: Path, *overrides: str, algorithms: list[str] | None = None) -> RunConfig:
    """The run of `write_run`."""
    return load_run(write_run(folder), overrides, algorithms)


@pytest.fixture(scope="session")
def small_dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A dataset of the small site that no test may change."""
    folder = tmp_path_factory.mktemp("small_site")
    return build_dataset(load_site(write_site(folder)), folder / "dataset", SEED)


@pytest.fixture(scope="session")
def small_ray() -> Iterator[None]:
    """A local Ray, the same for all tests of a session."""
    with connect("local", dashboard=False, num_cpus=2):
        yield
