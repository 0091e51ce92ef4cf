"""Policies without training: random weights in a policy folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from gymnasium import spaces
from pydantic import TypeAdapter

from iquitos_rl.algorithms.policy import inference_module, save_policy
from iquitos_rl.config.algorithm import AlgorithmSettings
from tests.training.small_run import ROOT

OWN = {
    "a2c": {"n_steps": 24, "minibatch_size": 12},
    "ppo": {"n_steps": 24, "minibatch_size": 12, "epochs": 1},
    "sac": {"batch_size": 8, "buffer_size": 100, "warmup_steps": 8, "steps_per_iteration": 24},
}


def small_settings(algorithm: str, **changes: Any) -> Any:
    """The shipped settings of an algorithm with one hidden layer of eight units."""
    shipped = yaml.safe_load((ROOT / f"ray_configs/algorithms/{algorithm}.yaml").read_text(encoding="utf-8"))
    values = shipped | OWN[algorithm] | {"hidden": [8]} | changes
    return TypeAdapter(AlgorithmSettings).validate_json(json.dumps(values))


def feature_spaces(sockets: int) -> tuple[spaces.Box, spaces.Box]:
    """Observation and action of a site with a BESS, as `EVChargingEnv` has them."""
    low = np.array([-1.0] + [0.0] * sockets, np.float32)
    return (
        spaces.Box(-2.0, 2.0, (22 + 7 * sockets,), np.float32),
        spaces.Box(low, np.ones_like(low), dtype=np.float32),
    )


def random_state(module: torch.nn.Module, seed: int, scale: float = 0.5) -> dict[str, np.ndarray]:
    """Random weights for a module; with a large scale many actions reach their bounds."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (scale * torch.randn(tensor.shape, generator=generator)).numpy()
        for name, tensor in module.state_dict().items()
    }


def make_policy(
    folder: Path,
    algorithm: str = "a2c",
    *,
    sockets: int = 4,
    seed: int = 0,
    origin: Mapping[str, Any] | None = None,
    **changes: Any,
) -> None:
    """Write a policy folder with random weights."""
    settings = small_settings(algorithm, **changes)
    observation, action = feature_spaces(sockets)
    state = random_state(inference_module(settings, observation, action), seed)
    save_policy(folder, state, settings, observation, action, origin or {})
