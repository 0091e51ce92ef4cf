"""Fixtures for the algorithms: a small environment, settings from the shipped YAML, one Ray for all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter
from ray.tune.registry import register_env

from iquitos_rl.config.algorithm import AlgorithmSettings
from tests.algorithms.point_env import PointEnv

SETTINGS = Path(__file__).parents[2] / "ray_configs" / "algorithms"
ENV = "iquitos_rl_tests/Point"


@pytest.fixture
def point_env() -> PointEnv:
    return PointEnv()


@pytest.fixture
def settings_dict() -> Callable[[str], dict[str, Any]]:
    """The shipped YAML of an algorithm, as a dict that may be changed."""

    def load(name: str) -> dict[str, Any]:
        return yaml.safe_load((SETTINGS / f"{name}.yaml").read_text())

    return load


@pytest.fixture
def load_settings(settings_dict: Callable[[str], dict[str, Any]]) -> Callable[..., Any]:
    """The settings of an algorithm, from the shipped YAML with some values replaced."""

    def load(name: str, **changes: Any) -> Any:
        return TypeAdapter(AlgorithmSettings).validate_json(json.dumps(settings_dict(name) | changes))

    return load


@pytest.fixture(scope="session")
def ray_session() -> Iterator[str]:
    """A local Ray; returns the name under which the point environment is registered."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, ignore_reinit_error=True)
    register_env(ENV, PointEnv)
    yield ENV
    ray.shutdown()
