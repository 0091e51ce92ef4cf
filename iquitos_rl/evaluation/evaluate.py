"""From a controller and a year it has not seen to KPIs and a score."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from iquitos_rl.config.reward import RewardWeights
from iquitos_rl.config.run import WindowConfig
from iquitos_rl.control.controller import Controller
from iquitos_rl.control.policy import TrainedPolicy
from iquitos_rl.env import EVChargingEnv, make_env
from iquitos_rl.env.no_control import rollout_reference
from iquitos_rl.evaluation.rollout import Progress, rollout
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
        folder.mkdir(parents=True, exist_ok=True)
        name = self.kpis["controller"]
        self.hours.to_parquet(folder / f"timeseries_{name}.parquet", index=False)
        path = folder / f"result_{name}.json"
        path.write_text(json.dumps(self.kpis | more, indent=1) + "\n", encoding="utf-8")
        return path


class Evaluator:
    """Evaluates controllers on one window of one year; the simulator is built once.

    Args:
        dataset: where the years are.
        split: ``train``, ``validation`` or ``test``.
        year: number of the year within the split.
        window: part of the year; all of it if left out.
        engine: what simulates.
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
        window: WindowConfig | None = None,
        engine: str = "citylearn",
        weights: RewardWeights | None = None,
    ) -> None:
        self.dataset = dataset
        self.split = split
        self.year = year
        self.window = window or WindowConfig()
        self.engine = engine
        self.weights = weights or RewardWeights()
        self._schema = dataset.schema_path(split, year)
        self._no_control = dataset.no_control(split, year)
        self._envs: dict[str, EVChargingEnv] = {}
        self._reference: NoControlReference | None = None

    def _env(self, observation: str) -> EVChargingEnv:
        if observation not in self._envs:
            self._envs[observation] = make_env(
                self._schema,
                engine=self.engine,  # type: ignore[arg-type]
                observation=observation,
                episode_steps=self.window.step_count,
                start_step=self.window.start_step,
                weights=self.weights,
            )
        return self._envs[observation]

    def reference(self, env: EVChargingEnv) -> NoControlReference:
        """No control on the very window: in closed form where that holds, else simulated."""
        if self._reference is None:
            start, steps = self.window.start_step, self.window.step_count
            if self._no_control.closed_form_valid(start):
                self._reference = self._no_control.reference(start, steps)
            else:
                self._reference = rollout_reference(env.site, start, steps)
        return self._reference

    def evaluate(self, controller: Controller, progress: Progress | None = None) -> Evaluation:
        """Run a controller deterministically through the window. Raises ValueError if it does not fit."""
        observation = controller.observation if isinstance(controller, TrainedPolicy) else "features"
        env = self._env(observation)
        reference = self.reference(env)
        result = rollout(env, controller, progress)
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
            "window": {"start_step": self.window.start_step, "steps": self.window.step_count},
            "site": self.dataset.site.name,
            "dataset_fingerprint": self.dataset.fingerprint,
            "weights": self.weights.model_dump(),
        }
        return Evaluation(kpis, result.hours)


def evaluate(
    controller: Controller, dataset: Dataset, progress: Progress | None = None, **options: Any
) -> Evaluation:
    """Evaluate one controller; options as for `Evaluator`."""
    return Evaluator(dataset, **options).evaluate(controller, progress)
