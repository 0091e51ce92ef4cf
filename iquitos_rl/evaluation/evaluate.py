"""From a controller and a year it has not seen to KPIs and a score."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from iquitos_rl.config.reward import RewardWeights
from iquitos_rl.config.run import Engine, WindowConfig
from iquitos_rl.control.controller import Controller
from iquitos_rl.control.policy import TrainedPolicy
from iquitos_rl.env import EVChargingEnv, make_env
from iquitos_rl.env.no_control import rollout_reference
from iquitos_rl.evaluation.rollout import Progress, rollout
from iquitos_rl.files import replace_file, write_json
from iquitos_rl.kpis import key_performance_indicators, total_objectives
from iquitos_rl.objectives import NoControlReference, score
from iquitos_rl.site import Dataset

__all__ = ["Evaluation", "Evaluator", "evaluate"]


@dataclass(frozen=True)
class Evaluation:
    """A controller's result.

    Attributes:
        kpis: KPIs (units in the names, shares 0-1), score, and what they were measured on.
        hours: the flows of every hour.
    """

    kpis: dict[str, Any]
    hours: pd.DataFrame

    def write(self, folder: Path, **more: Any) -> Path:
        """Write ``result_<controller>.json`` (``more`` added) and ``timeseries_<controller>.parquet``."""
        name = self.kpis["controller"]
        replace_file(
            folder / f"timeseries_{name}.parquet", lambda path: self.hours.to_parquet(path, index=False)
        )
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
        self._schema = dataset.schema_path(split, year)
        self._no_control = dataset.no_control(split, year)
        self._envs: dict[tuple[str, int], EVChargingEnv] = {}
        self._references: dict[WindowConfig, NoControlReference] = {}

    def _env(self, observation: str, steps: int) -> EVChargingEnv:
        key = (observation, steps)
        if key not in self._envs:
            self._envs[key] = make_env(
                self._schema,
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
        observation = controller.observation if isinstance(controller, TrainedPolicy) else "features"
        env = self._env(observation, window.step_count)
        reference = self.reference(env, window)
        result = rollout(env, controller, window.start_step, progress)
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
        if reference.left_out:
            kpis["score_left_out"] = list(reference.left_out)
        kpis |= {
            "controller": controller.name,
            "engine": self.engine,
            "split": self.split,
            "year": self.year,
            "window": {"start_step": window.start_step, "steps": window.step_count},
            "site": self.dataset.site.name,
            "dataset_fingerprint": self.dataset.fingerprint,
            "weights": self.weights.model_dump(),
        }
        return Evaluation(kpis, result.hours)


def evaluate(
    controller: Controller,
    dataset: Dataset,
    window: WindowConfig | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Evaluation:
    """Evaluate one controller on a window, or the whole year; options as for `Evaluator`."""
    return Evaluator(dataset, **options).evaluate(controller, window, progress)
