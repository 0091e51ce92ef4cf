"""Policies of the small site, made without training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.policies import make_policy
from tests.training.small_run import small_dataset, small_ray

__all__ = ["policy_in", "small_dataset", "small_ray"]


@pytest.fixture
def policy_in(tmp_path: Path) -> Callable[..., Path]:
    """Writes a random policy into a folder below tmp_path and returns that folder."""

    def write(name: str, *, sockets: int = 4, seed: int = 0, env_steps: int = 0) -> Path:
        make_policy(tmp_path / name, sockets=sockets, seed=seed, origin={"env_steps": env_steps})
        return tmp_path / name

    return write
