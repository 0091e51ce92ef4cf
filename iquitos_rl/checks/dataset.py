"""The site's data: the sockets, the battery and the action that the site file promises."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from iquitos_rl.checks.check import CheckFailed, Say, Warned
from iquitos_rl.config import RunConfig
from iquitos_rl.config.site import SiteConfig
from iquitos_rl.site import Dataset, build_dataset, load_dataset
from iquitos_rl.site.storage import read_json

__all__ = ["check_action", "check_bess", "check_sockets", "open_dataset"]

STEPS = 24


def open_dataset(run: RunConfig, *, build: bool, say: Say) -> Dataset:
    """The run's dataset.

    Args:
        run: names its folder, site and seed.
        build: make it where it is missing, as training does.
        say: told that it is built.

    Raises:
        CheckFailed: it is missing and not to be built.
        DatasetError: it is damaged, or cannot be built.
    """
    path = Path(run.dataset_path).resolve()
    if path.exists():
        return load_dataset(path)
    if not build:
        raise CheckFailed(
            f"{path}: no dataset here", f"make it with: iquitos-rl dataset build --out {path} [--site YAML]"
        )
    say(f"Building the dataset of {run.site.name} in {path}, as training would")
    return build_dataset(run.site, path, run.dataset.seed, table_format=run.dataset.table_format)


def check_sockets(dataset: Dataset, run: RunConfig) -> str:
    """Every year has the site file's number of sockets, and the data is as it was built from that file.

    Raises:
        CheckFailed: another number, another site file or seed.
        DatasetError: files are missing or changed.
    """
    expected = run.site.socket_count
    for schema, building in _buildings(dataset):
        count = len(building.get("chargers") or {})
        if count != expected:
            raise CheckFailed(
                f"{schema}: {count} sockets, the site file has {expected}", _build_again(dataset)
            )
    if (dataset.site, dataset.seed) != (run.site, run.dataset.seed):
        raise CheckFailed(
            f"{dataset.path}: made from another site file or seed ({dataset.site.name}, seed "
            f"{dataset.seed}; the run has {run.site.name}, seed {run.dataset.seed})",
            _build_again(dataset),
        )
    dataset.check_files()
    return f"{expected} sockets in each of {len(dataset.all_years())} years, files intact"


def check_bess(dataset: Dataset, site: SiteConfig) -> str | Warned:
    """Every year has the site file's battery, and it can be controlled. Raises CheckFailed."""
    for schema, building in _buildings(dataset):
        storage = building.get("electrical_storage")
        if site.bess is None:
            if storage is None:
                continue
            raise CheckFailed(f"{schema}: has a BESS, the site file has none", _build_again(dataset))
        if not storage:
            raise CheckFailed(
                f"{schema}: no BESS (no electrical_storage), the site file has one of "
                f"{site.bess.capacity_kwh:g} kWh",
                _build_again(dataset),
            )
        attributes = storage.get("attributes") or {}
        for key, value in (
            ("capacity", site.bess.capacity_kwh),
            ("nominal_power", site.bess.nominal_power_kw),
        ):
            if attributes.get(key) != value:
                raise CheckFailed(
                    f"{schema}: electrical_storage.{key} is {attributes.get(key)}, "
                    f"the site file has {value:g}",
                    _build_again(dataset),
                )
    if site.bess is None:
        return Warned(
            f"site {site.name} has no BESS: surplus PV cannot be kept",
            "add `bess` to the site file if it has one",
        )
    return f"{site.bess.capacity_kwh:g} kWh, {site.bess.nominal_power_kw:g} kW in each year"


def check_action(dataset: Dataset, run: RunConfig) -> str:
    """The training environment takes one number per socket and one for the BESS, and steps through a day.

    Raises:
        CheckFailed: another length or other bounds, or numbers that are not finite.
        ValueError: the environment cannot be made.
    """
    from iquitos_rl.env import make_vector_env

    site, environment = run.site, run.environment
    schemas = [dataset.schema_path("train", year) for year in range(dataset.years("train"))]
    envs = make_vector_env(
        schemas,
        2,
        observation=environment.observation,
        mask_idle=environment.mask_idle,
        episode_steps=environment.episode_steps,
        random_start="day",
    )
    try:
        space: Any = envs.single_action_space
        if space.shape != (site.action_size,):
            raise CheckFailed(
                f"{dataset.path}: an action has {space.shape[0]} numbers, the site file makes it "
                f"{site.action_size} ({site.socket_count} sockets"
                f"{' and the BESS' if site.bess is not None else ', no BESS'})",
                _build_again(dataset),
            )
        low = [-1.0] * (site.bess is not None)
        for sockets in site.sockets:
            low += [-1.0 if sockets.discharge_power_kw else 0.0] * sockets.count
        if not (np.array_equal(space.low, low) and np.all(space.high == 1.0)):
            raise CheckFailed(
                f"{dataset.path}: bounds of the action differ from the site file's: the BESS -1 to 1, "
                "sockets 0 to 1 (-1 to 1 where they may discharge)",
                _build_again(dataset),
            )
        envs.reset(seed=run.seed)
        envs.action_space.seed(run.seed)
        for step in range(STEPS):
            observations, rewards, *_ = envs.step(envs.action_space.sample())
            if not (np.isfinite(observations).all() and np.isfinite(rewards).all()):
                raise CheckFailed(
                    f"{dataset.path}: observation or reward of step {step} is not finite",
                    _build_again(dataset),
                )
    finally:
        envs.close()
    return f"{site.action_size} numbers; a day stepped"


def _buildings(dataset: Dataset) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Schema file and building of every year. Raises CheckFailed or DatasetError."""
    for split, year in dataset.all_years():
        schema = dataset.schema_path(split, year)
        buildings = read_json(schema).get("buildings")
        if not isinstance(buildings, dict) or len(buildings) != 1:
            raise CheckFailed(f"{schema}: expected one building", _build_again(dataset))
        yield schema, next(iter(buildings.values()))


def _build_again(dataset: Dataset) -> str:
    return (
        f"build it again: iquitos-rl dataset build --out {dataset.path} --force [--site YAML], or choose "
        "another folder: --set dataset.path=DIR"
    )
