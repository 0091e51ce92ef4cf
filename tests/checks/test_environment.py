"""Imports, versions and devices: each check is broken by what would break it."""

from __future__ import annotations

import importlib.metadata
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

from iquitos_rl.checks import Outcome, environment
from iquitos_rl.checks.environment import (
    check_citylearn,
    check_devices,
    check_libraries,
    check_python,
    check_ray,
    declared,
)
from iquitos_rl.config import RunConfig
from iquitos_rl.env import TESTED_CITYLEARN
from tests.checks.conftest import made


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Lets the project declare other ranges."""

    def declare(*dependencies: str, python: str = ">=3.11") -> None:
        file = tmp_path / "pyproject.toml"
        file.write_text(
            f'[project]\nname = "iquitos-rl"\nrequires-python = "{python}"\n'
            f"dependencies = {list(dependencies)}\n"
        )
        monkeypatch.setattr(environment, "PYPROJECT", file)

    return declare


@pytest.mark.parametrize("check", [check_python, check_ray, check_citylearn, check_libraries])
def test_this_environment_passes(check):
    result = made(check)
    assert result.outcome is Outcome.passed, result.detail


def test_what_is_declared_is_what_pyproject_says():
    found = declared()
    assert Requirement("ray[default,rllib,tune]>=2.60,<2.61") in found.requirements
    assert "3.10" not in found.python
    assert not any(requirement.name == "pytest" for requirement in found.requirements)


def test_without_pyproject_the_installed_package_says_what_it_needs(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(environment, "PYPROJECT", tmp_path / "pyproject.toml")
    (tmp_path / "iquitos_rl-9.dist-info").mkdir()
    (tmp_path / "iquitos_rl-9.dist-info/METADATA").write_text(
        "Metadata-Version: 2.4\nName: iquitos-rl\nVersion: 9\nRequires-Python: >=3.99\n"
        'Requires-Dist: numpy>=2.0\nRequires-Dist: pytest>=8; extra == "dev"\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = declared()
    assert str(found.python) == ">=3.99"
    assert found.requirements == (Requirement("numpy>=2.0"),)


def test_a_python_out_of_range_fails(project):
    project(python=">=3.99")
    result = made(check_python)
    assert result.outcome is Outcome.failed
    assert "the project needs >=3.99" in result.detail
    assert "PYTHON=" in result.remedy


def test_a_ray_out_of_range_fails(project):
    project("ray>=99")
    result = made(check_ray)
    assert result.outcome is Outcome.failed
    assert "the project needs >=99" in result.detail
    assert "make setup" in result.remedy


def test_a_ray_without_rllib_fails(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.rllib", None)  # what Python does with it: ModuleNotFoundError
    result = made(check_ray)
    assert result.outcome is Outcome.failed
    assert "ray cannot be imported: " in result.detail
    assert "ray.rllib" in result.detail


def test_without_citylearn_the_command_that_adds_it_is_shown(monkeypatch):
    monkeypatch.delitem(sys.modules, "iquitos_rl.env")
    monkeypatch.setitem(sys.modules, "citylearn", None)
    result = made(check_citylearn)
    assert result.outcome is Outcome.failed
    assert f"pip install --no-deps citylearn=={TESTED_CITYLEARN}" in result.detail


def test_another_citylearn_than_the_tested_one_is_a_warning(monkeypatch):
    version = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "3.0.1" if name == "citylearn" else version(name)
    )
    result = made(check_citylearn)
    assert result.outcome is Outcome.warning
    assert "citylearn 3.0.1, tested is 3.0.2" in result.detail
    assert "make verify" in result.remedy


def test_a_library_out_of_range_fails(project):
    project("torch>=2.7", "numpy>=99")
    result = made(check_libraries)
    assert result.outcome is Outcome.failed
    assert result.detail.startswith(f"numpy {importlib.metadata.version('numpy')}, the project needs >=99")


def test_a_library_that_is_missing_fails(project):
    project("torch>=2.7", "no-such-library>=1")
    result = made(check_libraries)
    assert (result.outcome, result.detail) == (Outcome.failed, "no-such-library is not installed")


def test_a_library_that_cannot_be_imported_fails(monkeypatch):
    monkeypatch.setitem(sys.modules, "pvlib", None)
    result = made(check_libraries)
    assert result.outcome is Outcome.failed
    assert "pvlib cannot be imported" in result.detail


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a GPU")
def test_without_a_gpu_the_cpu_is_noted_and_that_passes(run: RunConfig):
    for given in (run, None):
        result = made(partial(check_devices, given))
        assert result.outcome is Outcome.passed
        assert "no GPU found: CPU instead" in result.detail


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a GPU")
def test_a_run_that_wants_a_gpu_fails_without_one(run: RunConfig):
    resources = run.resources.model_copy(update={"gpus_per_trial": 0.33})
    result = made(lambda: check_devices(run.model_copy(update={"resources": resources})))
    assert result.outcome is Outcome.failed
    assert "resources.gpus_per_trial is 0.33" in result.detail
    assert "--set resources.gpus_per_trial=0" in result.remedy
