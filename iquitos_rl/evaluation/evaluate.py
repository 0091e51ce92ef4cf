"""From a controller and a year it has not seen to KPIs and a score."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from iquitos_rl.config.reward import RewardWeights
from iquitos_rl.config.run import Engine, WindowConfig
from iquitos_rl.control.controller import Controller
from iquitos_rl.control.policy import TrainedPolicy
from iquitos_rl.env import EVChargingEnv, make_env
from iquitos_rl.env.no_control import rollout_reference
from iquitos_rl.env.situation import Plant
from iquitos_rl.evaluation.indicators import further_indicators, vehicle_classes
from iquitos_rl.evaluation.rollout import Progress, rollout
from iquitos_rl.files import replace_file, write_json
from iquitos_rl.kpis import (
    DEFINITIONS,
    energy_balance_error,
    key_performance_indicators,
    total_objectives,
)
from iquitos_rl.objectives import NoControlReference, score
from iquitos_rl.site import Dataset
from iquitos_rl.versions import versions

__all__ = ["Evaluation", "Evaluator", "evaluate"]

BALANCE_TOLERANCE = 1e-6
"""Of all energy that flows; engines compute hours in single precision."""


@dataclass(frozen=True)
class Evaluation:
    """A controller's result.

    Attributes:
        kpis: KPIs (units in the names, shares 0-1), score, and what they were measured on.
        hours: the flows of every hour.
        departures: the vehicles that left, with their class.
    """

    kpis: dict[str, Any]
    hours: pd.DataFrame
    departures: pd.DataFrame

    def write(self, folder: Path, **more: Any) -> Path:
        """Write ``result_<controller>.json`` (``more`` added), ``timeseries_`` and ``departures_`` of it."""
        name = self.kpis["controller"]
        for kind, table in (("timeseries", self.hours), ("departures", self.departures)):
            replace_file(folder / f"{kind}_{name}.parquet", partial(table.to_parquet, index=False))
        path = folder / f"result_{name}.json"
        write_json(path, self.kpis | more)
        return path


class Evaluator:
    """Evaluates controllers on windows of one year; a simulator is built once per length of window.

    Args:
        dataset: where the years are.
        split: ``train``, ``validation`` or ``test``.
        year: number of the year within the split.
        engine: what simulates: ``"batch"``, or ``"citylearn"``, the reference.
        weights: of the objectives in the score.

    Raises:
        DatasetError: no such year.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        split: str = "test",
        year: int = 0,
        engine: Engine = "batch",
        weights: RewardWeights | None = None,
    ) -> None:
        self.dataset = dataset
        self.split = split
        self.year = year
        self.engine = engine
        self.weights = weights or RewardWeights()
        self.schema = dataset.schema_path(split, year)
        self._training_schemas = tuple(
            dataset.schema_path("train", number) for number in range(dataset.years("train"))
        )
        self._no_control = dataset.no_control(split, year)
        self._envs: dict[tuple[str, int], EVChargingEnv] = {}
        self._references: dict[WindowConfig, NoControlReference] = {}

    def _env(self, observation: str, steps: int) -> EVChargingEnv:
        key = (observation, steps)
        if key not in self._envs:
            self._envs[key] = make_env(
                self.schema,
                engine=self.engine,
                observation=observation,
                episode_steps=steps,
                weights=self.weights,
            )
        return self._envs[key]

    def reference(self, env: EVChargingEnv, window: WindowConfig) -> NoControlReference:
        """No control on the very window: in closed form where that holds, else simulated."""
        if window not in self._references:
            start, steps = window.start_step, window.step_count
            if self._no_control.closed_form_valid(start):
                self._references[window] = self._no_control.reference(start, steps)
            else:
                factor = self.dataset.site.unserved_energy_kg_per_kwh
                self._references[window] = rollout_reference(env.simulator, 0, start, steps, factor)
        return self._references[window]

    def evaluate(
        self, controller: Controller, window: WindowConfig | None = None, progress: Progress | None = None
    ) -> Evaluation:
        """Run a controller deterministically through a window, the whole year if it is left out.

        Raises:
            ValueError: the controller does not fit the site.
        """
        window = window or WindowConfig()
        observation = controller.observation or "features"
        env = self._env(observation, window.step_count)
        reference = self.reference(env, window)
        result = rollout(
            env, controller, window.start_step, reference, self._training_schemas, progress=progress
        )
        hours = {name: result.hours[name].to_numpy() for name in result.hours.columns}
        factor = self.dataset.site.unserved_energy_kg_per_kwh
        kpis: dict[str, Any] = dict(
            key_performance_indicators(
                hours, bess_stored_change_kwh=result.bess_stored_change_kwh, unserved_kg_per_kwh=factor
            )
        )
        kpis["score"], kpis["score_components"] = score(
            total_objectives(hours, factor), reference, self.weights
        )
        departures = result.departures.assign(vehicle_class=self._classes(result.departures))
        kpis |= further_indicators(result.hours, departures, kpis, env.plant)
        kpis["energy_balance_error"] = energy_balance_error(
            kpis, vehicles_discharge=bool(env.plant.may_discharge.any())
        )
        if kpis["energy_balance_error"] > BALANCE_TOLERANCE:
            raise RuntimeError(
                f"{controller.name}: the energy balance is open by {kpis['energy_balance_error']:.1e} of all "
                "energy: a defect of the simulation, please report it"
            )
        if reference.left_out:
            kpis["score_left_out"] = list(reference.left_out)
        kpis |= {
            "controller": controller.name,
            "kind": controller.kind,
            "engine": self.engine,
            **self.measured_on(window),
            "controller_settings": controller.settings,
            "plant": _described(env.plant),
            "versions": versions(),
        }
        if isinstance(controller, TrainedPolicy):
            kpis |= controller.provenance
        if self.engine == "citylearn":
            kpis["citylearn_kpis"] = _citylearn_kpis(env)
        return Evaluation(kpis, result.hours, departures)

    def measured_on(self, window: WindowConfig) -> dict[str, Any]:
        """What results must have in common to be compared."""
        return {
            "site": self.dataset.site.name,
            "dataset_fingerprint": self.dataset.fingerprint,
            "split": self.split,
            "year": self.year,
            "window": {"start_step": window.start_step, "steps": window.step_count},
            "weights": self.weights.model_dump(),
            "definitions": DEFINITIONS,
        }

    def _classes(self, departures: pd.DataFrame) -> Any:
        return vehicle_classes(departures, tuple(kind.name for kind in self.dataset.site.sockets))


def evaluate(
    controller: Controller,
    dataset: Dataset,
    window: WindowConfig | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Evaluation:
    """Evaluate one controller on a window, or the whole year; options as for `Evaluator`."""
    return Evaluator(dataset, **options).evaluate(controller, window, progress)


def _described(plant: Plant) -> dict[str, Any]:
    """Sizes of the site, for readers of a result."""
    limit_kw = plant.feeder_limit_kw
    return {
        "sockets": len(plant.socket_names),
        "installed_kw": float(plant.rated_kw.sum()),
        "feeder_limit_kw": limit_kw if math.isfinite(limit_kw) else None,
        "bess_capacity_kwh": plant.bess.capacity_kwh if plant.bess else None,
        "bess_nominal_kw": plant.bess.nominal_kw if plant.bess else None,
    }


def _citylearn_kpis(env: EVChargingEnv) -> dict[str, dict[str, float]]:
    """What CityLearn says of the episode itself (``evaluate_v2``): by district and building, then by KPI.

    Without its own business-as-usual run, which would simulate the year once more.
    """
    table = env.site.env.evaluate_v2(include_business_as_usual=False)
    kpis: dict[str, dict[str, float]] = {}
    for name, function, value in zip(table["name"], table["cost_function"], table["value"], strict=True):
        if value is not None and math.isfinite(value):
            kpis.setdefault(str(name), {})[str(function)] = float(value)
    return kpis
