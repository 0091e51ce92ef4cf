"""One name for the environment, in Gymnasium and in Ray, and the functions that make it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import gymnasium
from gymnasium.vector import SyncVectorEnv, VectorEnv

from iquitos_rl.env.citylearn_env import EVChargingEnv

__all__ = ["ENV_ID", "make_env", "make_vector_env", "register"]

ENV_ID = "iquitos_rl/EVCharging-v0"

Schemas = str | Path | Sequence[str | Path]


def make_env(schema: Schemas, engine: Literal["citylearn"] = "citylearn", **options: Any) -> EVChargingEnv:
    """An environment of one charging site.

    Args:
        schema: path of a CityLearn schema, or several years of one site.
        engine: what simulates it. ``"citylearn"`` is the reference.
        options: of `EVChargingEnv`.

    Raises:
        ValueError: an engine that there is not, or options that contradict each other.
        FileNotFoundError: no such schema.
    """
    if engine != "citylearn":
        raise ValueError(f"engine {engine!r}: expected 'citylearn'")
    return EVChargingEnv(schema, **options)


def make_vector_env(schema_or_schemas: Schemas, num_envs: int, **options: Any) -> VectorEnv[Any, Any, Any]:
    """``num_envs`` environments stepped one after the other; options as in `make_env`."""
    if num_envs < 1:
        raise ValueError(f"num_envs {num_envs}: expected at least 1")
    return SyncVectorEnv([lambda: make_env(schema_or_schemas, **options) for _ in range(num_envs)])


def _create(env_config: Mapping[str, Any]) -> EVChargingEnv:
    """What RLlib calls with its env_config: the arguments of `make_env` by name.

    RLlib seeds environment i of runner w with seed + w + i, so that neighbouring runners would see the same
    windows, one place apart; the runner's number keeps their choices apart.
    """
    runner = int(getattr(env_config, "worker_index", 0))
    return make_env(**{"seed_stream": runner, **env_config})


def register() -> None:
    """Make `ENV_ID` known to Gymnasium and to RLlib. Calling it again does nothing."""
    if ENV_ID not in gymnasium.registry:
        gymnasium.register(ENV_ID, entry_point="iquitos_rl.env.registration:make_env")
    from ray.tune.registry import register_env

    register_env(ENV_ID, _create)
