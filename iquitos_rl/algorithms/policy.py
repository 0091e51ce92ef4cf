"""A trained policy on disk: weights and the description needed to run it, without RLlib's pickles.

A policy folder holds ``policy.json`` (which algorithm and network, the spaces and the observation layout it
was trained for, where it came from) and ``policy.pt`` (the tensors of its inference module). Loading builds
the network from the description and reads tensors only, so it executes nothing that the folder may contain.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.torch import TorchRLModule

from iquitos_rl.algorithms.build import build_algorithm_config
from iquitos_rl.config.algorithm import AlgorithmSettings

__all__ = ["Policy", "PolicyError", "load_policy", "save_policy"]

FORMAT = "iquitos-rl policy"
FORMAT_VERSION = 1
DESCRIPTION_FILE = "policy.json"
WEIGHTS_FILE = "policy.pt"


class PolicyError(ValueError):
    """A policy folder that cannot be used; the text says why in one line."""


@dataclass(frozen=True)
class Policy:
    """A trained policy, ready to act.

    Attributes:
        settings: hyperparameters it was trained with, its network among them.
        module: RLlib's inference module.
        observation_space: shape (observations,).
        action_space: bounds of the environment's actions, shape (actions,).
        origin: where it came from: experiment, environment steps, dataset fingerprint, layout, validation.
    """

    settings: AlgorithmSettings
    module: TorchRLModule
    observation_space: spaces.Box
    action_space: spaces.Box
    origin: Mapping[str, Any] = field(default_factory=dict)

    def act(self, observation: NDArray[np.float32]) -> NDArray[np.float32]:
        """The deterministic action (mode of the distribution) within the environment's bounds.

        Args:
            observation: shape (..., observations).

        Returns:
            Shape (..., actions).

        Raises:
            ValueError: observations of another length than the policy was trained for.
        """
        expected = self.observation_space.shape
        if observation.shape[-1:] != expected:
            raise ValueError(f"observation of shape {observation.shape}, the policy expects {expected}")
        batch = torch.as_tensor(np.asarray(observation, np.float32).reshape(-1, *expected))
        with torch.no_grad():
            outputs = self.module.forward_inference({Columns.OBS: batch})
        distribution = self.module.get_inference_action_dist_cls().from_logits(
            outputs[Columns.ACTION_DIST_INPUTS]
        )
        # What RLlib's module-to-env connectors do: the policy acts in [-1, 1], mapped linearly to the bounds.
        share = np.clip(np.asarray(distribution.to_deterministic().sample()), -1.0, 1.0)
        low, high = self.action_space.low, self.action_space.high
        action = low + (share + 1.0) / 2.0 * (high - low)
        return np.clip(action, low, high).astype(np.float32).reshape(*observation.shape[:-1], -1)


def inference_module(
    settings: AlgorithmSettings, observation_space: spaces.Box, action_space: spaces.Box
) -> TorchRLModule:
    """A fresh network of the kind that ``settings`` describe, for acting only."""
    config = build_algorithm_config(settings, env="", env_config={})
    spec = config.get_rl_module_spec(
        spaces={DEFAULT_MODULE_ID: (observation_space, action_space)}, inference_only=True
    )
    module = spec.build()
    assert isinstance(module, TorchRLModule)
    return module


def save_policy(
    folder: Path,
    state: Mapping[str, Any],
    settings: AlgorithmSettings,
    observation_space: spaces.Box,
    action_space: spaces.Box,
    origin: Mapping[str, Any],
) -> None:
    """Write a policy folder.

    Args:
        folder: made if it is missing.
        state: of the inference module, as its ``get_state(inference_only=True)`` gives it.
        settings: hyperparameters.
        observation_space: of the environment.
        action_space: of the environment.
        origin: plain values to keep beside it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: torch.as_tensor(np.asarray(value)).clone() for name, value in state.items()}
    torch.save(tensors, folder / WEIGHTS_FILE)
    description = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "settings": settings.model_dump(mode="json"),
        "observation_size": int(np.prod(observation_space.shape)),
        "action_low": action_space.low.tolist(),
        "action_high": action_space.high.tolist(),
        "origin": dict(origin),
    }
    (folder / DESCRIPTION_FILE).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")


def load_policy(folder: Path) -> Policy:
    """Read a policy folder.

    Raises:
        PolicyError: the folder is not a policy, is of a later format, or is damaged.
    """
    description = _read_description(folder / DESCRIPTION_FILE)
    try:
        settings = TypeAdapter(AlgorithmSettings).validate_json(json.dumps(description["settings"]))
        size = int(description["observation_size"])
        low, high = (np.array(description[key], np.float32) for key in ("action_low", "action_high"))
        observation_space = spaces.Box(-np.inf, np.inf, (size,), dtype=np.float32)
        action_space = spaces.Box(low, high, dtype=np.float32)
        origin = description.get("origin", {})
        if low.ndim != 1 or not np.isfinite([low, high]).all() or not isinstance(origin, dict):
            raise ValueError("action bounds must be lists of numbers, origin a mapping")
    except (AssertionError, KeyError, TypeError, ValueError, ValidationError) as error:
        raise PolicyError(
            f"{folder / DESCRIPTION_FILE}: not a usable policy description ({_first_line(error)})"
        ) from None
    module = inference_module(settings, observation_space, action_space)
    try:
        # weights_only: tensors, never code.
        tensors = torch.load(folder / WEIGHTS_FILE, map_location="cpu", weights_only=True)
        module.load_state_dict(tensors)
    except FileNotFoundError:
        raise PolicyError(f"{folder / WEIGHTS_FILE}: the file is missing") from None
    except pickle.UnpicklingError:  # torch would advise to load it unsafely
        raise PolicyError(f"{folder / WEIGHTS_FILE}: damaged, or more than tensors: not loaded") from None
    except Exception as error:
        raise PolicyError(
            f"{folder / WEIGHTS_FILE}: damaged, or not of this network ({_first_line(error)})"
        ) from None
    module.eval()
    return Policy(settings, module, observation_space, action_space, origin)


def _first_line(error: Exception) -> str:
    """What an error says; its kind where it says nothing, as torch does of an empty file."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _read_description(path: Path) -> dict[str, Any]:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PolicyError(f"{path.parent}: not a policy folder, there is no {path.name} in it") from None
    except (OSError, ValueError) as error:
        raise PolicyError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise PolicyError(f"{path}: not a policy description")
    if description.get("format_version") != FORMAT_VERSION:
        raise PolicyError(
            f"{path}: format version {description.get('format_version')}, this release reads {FORMAT_VERSION}"
        )
    return description
