"""The small site's data, one Ray, and a run on them whose every check passes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from iquitos_rl.checks import Result
from iquitos_rl.checks.check import Check, run_checks
from iquitos_rl.config import RunConfig, load_run
from iquitos_rl.site import Dataset, load_dataset
from tests.training.small_run import small_dataset, small_ray, write_run

__all__ = ["made", "small_dataset", "small_ray"]


def made(check: Callable[[], Any]) -> Result:
    """How a single check ended."""
    (result,) = run_checks([Check("one", "phase", "title", check)])
    return result


@pytest.fixture
def run_file(tmp_path: Path, small_dataset: Dataset) -> Path:
    """A run on the small site and its data."""
    return write_run(tmp_path, dataset={"seed": small_dataset.seed, "path": str(small_dataset.path)})


@pytest.fixture
def run(run_file: Path) -> RunConfig:
    return load_run(run_file)


@pytest.fixture
def copied_dataset(tmp_path: Path, small_dataset: Dataset) -> Dataset:
    """The small site's data, to be changed."""
    shutil.copytree(small_dataset.path, tmp_path / "copy")
    return load_dataset(tmp_path / "copy")
