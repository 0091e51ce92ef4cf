"""One name for the environment, in Gymnasium and in Ray, and the functions that make it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from iquitos_rl.config.run import Engine
from iquitos_rl.env.batch.vector_env import BatchVectorEnv, mode_of
from iquitos_rl.env.charging_env import EVChargingEnv

__all__ = ["ENV_ID", "make_env", "make_vector_env", "register"]

ENV_ID = "iquitos_rl/EVCharging-v0"

Schemas = str | Path | Sequence[str | Path]


def make_env(schema: Schemas, engine: Engine = "batch", **options: Any) -> EVChargingEnv:
    """An environment of one charging site.

    Args:
        schema: path of a CityLearn schema, or several years of one site.
        engine: what simulates it: ``"batch"``, or ``"citylearn"``, the reference.
        options: of `EVChargingEnv`.

    Raises:
        ValueError: an engine that there is not, options that contradict each other, or
            (`UnsupportedSchemaError`) a site that the batch engine does not model.
        FileNotFoundError: no such schema.
    """
    return EVChargingEnv(schema, engine=engine, **options)


def make_vector_env(
    schema_or_schemas: Schemas, num_envs: int, *, engine: Engine = "batch", **options: Any
) -> VectorEnv[Any, Any, Any]:
    """``num_envs`` environments of one charging site.

    Args:
        schema_or_schemas: path of a CityLearn schema, or several years of one site.
        num_envs: how many.
        engine: ``"batch"`` steps them together; ``"citylearn"``, the reference, one after the other.
        options: of `BatchVectorEnv`.

    Raises:
        ValueError: as `make_env`, or fewer than one environment.
        FileNotFoundError: no such schema.
    """
    if num_envs < 1:
        raise ValueError(f"num_envs {num_envs}: expected at least 1")
    if engine == "batch":
        return BatchVectorEnv(schema_or_schemas, num_envs, **options)
    mode = mode_of(options.pop("autoreset_mode", AutoresetMode.NEXT_STEP))
    copy = bool(options.pop("copy", True))
    options.pop("flows", None)  # always there
    makers = [lambda: make_env(schema_or_schemas, engine, **options) for _ in range(num_envs)]
    return SyncVectorEnv(makers, copy=copy, autoreset_mode=mode)


def _create(env_config: Mapping[str, Any]) -> EVChargingEnv | VectorEnv[Any, Any, Any]:
    """What RLlib calls with its env_config: the arguments of `make_env` by name.

    With ``num_envs`` (RLlib adds it to ask for a vector environment of our own) those of `make_vector_env`.
    RLlib seeds environment i of runner w with seed + w + i, so that neighbouring runners would see the same
    windows, one place apart; the runner's number keeps their choices apart.
    """
    if "num_envs" in env_config:
        options = dict(env_config)
        return make_vector_env(options.pop("schema"), options.pop("num_envs"), **options)
    runner = int(getattr(env_config, "worker_index", 0))
    return make_env(**{"seed_stream": runner, **env_config})


def register() -> None:
    """Make `ENV_ID` known to Gymnasium and to RLlib. Calling it again does nothing."""
    if ENV_ID not in gymnasium.registry:
        gymnasium.register(
            ENV_ID,
            entry_point="iquitos_rl.env.registration:make_env",
            vector_entry_point="iquitos_rl.env.registration:_make_registered_vector",
        )
    from ray.tune.registry import register_env

    register_env(ENV_ID, _create)


def _make_registered_vector(
    num_envs: int, schema: Schemas, engine: Engine = "batch", **options: Any
) -> VectorEnv[Any, Any, Any]:
    """What ``gymnasium.make_vec(ENV_ID, ..., vectorization_mode="vector_entry_point")`` calls."""
    return make_vector_env(schema, num_envs, engine=engine, **options)
