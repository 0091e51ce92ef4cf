"""The twenty checks: what they are, in their order, and what each of them needs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from iquitos_rl.checks.check import Check, CheckFailed, CheckSkipped, Say, Warned, run_checks
from iquitos_rl.checks.configuration import RunFile, check_carbon, check_time_step, check_weights, read_run
from iquitos_rl.checks.environment import (
    check_citylearn,
    check_devices,
    check_libraries,
    check_python,
    check_ray,
)
from iquitos_rl.checks.report import Report
from iquitos_rl.config import RunConfig

if TYPE_CHECKING:  # imported where needed: a library that is missing must fail a check, not all of them
    from iquitos_rl.checks.agents import Agents
    from iquitos_rl.site import Dataset

__all__ = ["ALGORITHMS", "validate"]

ALGORITHMS = ("a2c", "sac", "ppo")


def validate(
    run: Path,
    overrides: Sequence[str] = (),
    *,
    dataset: Path | None = None,
    fast: bool = False,
    say: Say = lambda text: None,
) -> Report:
    """Make the twenty checks. What a check finds is in the report; nothing but a missing dataset is made.

    Args:
        run: YAML of the run that is to be trained.
        overrides: ``key.key=value`` assignments over it.
        dataset: a folder that must hold the run's data. Without it that is the run's own, which is built
            where it is missing, as training would.
        fast: skip the checks that start Ray.
        say: told what is going on.

    Raises:
        ConfigError: there is no such run file, or an override is wrong.
    """
    started = time.perf_counter()
    given = [] if dataset is None else [f"dataset.path={json.dumps(str(dataset))}"]
    file = read_run(run, [*overrides, *given])
    with ExitStack() as stack:
        subject = _Subject(file.config, build=dataset is None, stack=stack, say=say)
        results = run_checks(_checks(file, subject), fast=fast, say=say)
    path = file.config.dataset_path if file.config is not None else ""
    return Report(str(run), path, fast, tuple(results), round(time.perf_counter() - started, 1))


class _Subject:
    """What several checks look at: the run, its dataset and its agents, each made when first needed."""

    def __init__(self, run: RunConfig | None, *, build: bool, stack: ExitStack, say: Say) -> None:
        self._run = run
        self._build = build
        self._stack = stack
        self._say = say
        self._dataset: Dataset | None = None
        self._agents: Agents | None = None

    def run(self) -> RunConfig:
        if self._run is None:
            raise CheckSkipped("the run cannot be read, see above")
        return self._run

    def configured(self, check: Callable[[], str]) -> str:
        """Make a check of the configuration; with a mistake in it no dataset is built from it."""
        try:
            return check()
        except CheckFailed:
            self._build = False
            raise

    def dataset(self) -> Dataset:
        if self._dataset is None:
            self.run()
            raise CheckSkipped("no dataset, see above")
        return self._dataset

    def agents(self) -> Agents:
        from iquitos_rl.checks.agents import Agents

        if self._agents is None:
            self._agents = self._stack.enter_context(Agents(self.run(), self.dataset()))
        return self._agents

    def sockets(self) -> str:
        from iquitos_rl.checks.dataset import check_sockets, open_dataset

        run = self.run()
        self._dataset = open_dataset(run, build=self._build, say=self._say)
        return check_sockets(self._dataset, run)

    def bess(self) -> str | Warned:
        from iquitos_rl.checks.dataset import check_bess

        return check_bess(self.dataset(), self.run().site)

    def action(self) -> str:
        from iquitos_rl.checks.dataset import check_action

        return check_action(self.dataset(), self.run())

    def folder(self, algorithm: str) -> str:
        from iquitos_rl.checks.folders import check_folder

        return check_folder(self.run(), algorithm)

    def train(self, algorithm: str) -> str:
        return self.agents().train(algorithm)

    def round_trip(self, algorithm: str) -> str:
        return self.agents().round_trip(algorithm)


def _checks(file: RunFile, subject: _Subject) -> list[Check]:
    """All checks, in order."""
    run = file.config
    folder = Path(run.dataset_path) if run is not None else None
    configured = subject.configured
    versions, configuration, dataset = "imports and versions", "configuration", "dataset"
    checks = [
        Check("python", versions, "Python", check_python),
        Check("ray", versions, "Ray RLlib and Tune", check_ray),
        Check("citylearn", versions, "CityLearn", check_citylearn),
        Check("libraries", versions, "other libraries", check_libraries),
        Check("weights", configuration, "reward weights", partial(configured, partial(check_weights, file))),
        Check(
            "carbon",
            configuration,
            "carbon intensity",
            partial(configured, partial(check_carbon, file, folder)),
        ),
        Check(
            "time_step",
            configuration,
            "time step",
            partial(configured, partial(check_time_step, file, folder)),
        ),
        Check("sockets", dataset, "sockets", subject.sockets),
        Check("bess", dataset, "BESS", subject.bess),
        Check("action", dataset, "action", subject.action),
    ]
    for name in ALGORITHMS:
        title = f"{name.upper()} trains a step"
        checks.append(
            Check(f"train_{name}", "algorithms", title, partial(subject.train, name), starts_ray=True)
        )
    for name in ALGORITHMS:
        title = f"{name.upper()} folder writable"
        checks.append(Check(f"folder_{name}", "checkpoints", title, partial(subject.folder, name)))
        title = f"{name.upper()} save and load"
        checks.append(
            Check(
                f"round_trip_{name}",
                "checkpoints",
                title,
                partial(subject.round_trip, name),
                starts_ray=True,
            )
        )
    checks.append(Check("devices", "devices", "GPU or CPU", partial(check_devices, run)))
    return checks
