"""The machine's side: Python, the libraries and their versions, GPUs."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from iquitos_rl.checks.check import CheckFailed, Warned
from iquitos_rl.config import RunConfig

__all__ = [
    "Declared",
    "check_citylearn",
    "check_devices",
    "check_libraries",
    "check_python",
    "check_ray",
    "declared",
]

PROJECT = "iquitos-rl"
PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
IMPORT_NAMES = {"pyyaml": "yaml", "scikit-learn": "sklearn"}
"""Where a library is imported under another name than it is installed under."""
INSTALL = "install what was tested: make setup (or pip install -c constraints.txt -e .)"


@dataclass(frozen=True)
class Declared:
    """What the project declares that it works with.

    Attributes:
        python: range of Python versions.
        requirements: libraries with their ranges, without the optional ones.
    """

    python: SpecifierSet
    requirements: tuple[Requirement, ...]


def declared() -> Declared:
    """Ranges of versions: of ``pyproject.toml`` in a source folder, else of the installed package.

    Raises:
        CheckFailed: neither is there.
    """
    try:
        # First, because the metadata of an editable installation is that of the day it was installed.
        project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
        if project["name"] == PROJECT:
            return Declared(
                SpecifierSet(project["requires-python"]), _without_extras(project["dependencies"])
            )
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        pass
    try:
        metadata = importlib.metadata.metadata(PROJECT)
    except importlib.metadata.PackageNotFoundError:
        raise CheckFailed(
            f"{PROJECT} is not installed, and {PYPROJECT} does not declare it", "install it: make setup"
        ) from None
    python = SpecifierSet(str(metadata["Requires-Python"] or ""))
    return Declared(python, _without_extras(importlib.metadata.requires(PROJECT) or ()))


def _without_extras(lines: Sequence[str]) -> tuple[Requirement, ...]:
    requirements = [Requirement(line) for line in lines]
    return tuple(r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""}))


def check_python() -> str:
    """This Python is in the declared range. Raises CheckFailed."""
    version, allowed = platform.python_version(), declared().python
    if not allowed.contains(version, prereleases=True):
        raise CheckFailed(
            f"Python {version}, the project needs {allowed}", "make setup PYTHON=python3.11 (or newer)"
        )
    return f"Python {version} ({allowed})"


def check_ray() -> str:
    """Ray with RLlib and Tune imports, in the declared range. Raises CheckFailed."""
    (requirement,) = [r for r in declared().requirements if r.name == "ray"]
    version = _version_in_range(requirement)
    for module in ("ray.rllib", "ray.tune"):
        _import(module, "ray")
    return f"ray {version} ({requirement.specifier})"


def check_citylearn() -> str | Warned:
    """CityLearn imports, at the version this was tested with. Raises CheckFailed."""
    # The package says itself what to do where CityLearn is missing.
    env = _import("iquitos_rl.env", "citylearn")
    version, tested = _installed("citylearn"), str(env.TESTED_CITYLEARN)
    if version != tested:
        return Warned(
            f"citylearn {version}, tested is {tested}",
            f"pip install --no-deps citylearn=={tested}; or make verify, to see whether the engines agree",
        )
    return f"citylearn {version}"


def check_libraries() -> str:
    """Every other library that the project declares imports, in its range. Raises CheckFailed."""
    versions = {}
    for requirement in declared().requirements:
        if requirement.name != "ray":
            versions[requirement.name] = _version_in_range(requirement)
            name = canonicalize_name(requirement.name)
            _import(IMPORT_NAMES.get(name, requirement.name), requirement.name)
    return f"torch {versions['torch']} and {len(versions) - 1} more in range"


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        raise CheckFailed(f"{name} is not installed", INSTALL) from None


def _version_in_range(requirement: Requirement) -> str:
    version = _installed(requirement.name)
    if not requirement.specifier.contains(version, prereleases=True):
        raise CheckFailed(f"{requirement.name} {version}, the project needs {requirement.specifier}", INSTALL)
    return version


def _import(module: str, library: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except Exception as error:  # a library that is broken may raise anything when it is imported
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckFailed(f"{library} cannot be imported: {reason}", INSTALL) from None


def check_devices(run: RunConfig | None) -> str:
    """GPUs compute what they should, or the CPU does the work. Raises CheckFailed.

    Args:
        run: the run, if it could be read; its share of a GPU must be there.
    """
    import torch

    wanted = run.resources.gpus_per_trial if run is not None else 0.0
    if not torch.cuda.is_available():
        if wanted:
            raise CheckFailed(
                f"no GPU found, and resources.gpus_per_trial is {wanted:g}",
                "train on the CPU: --set resources.gpus_per_trial=0, or on a cluster that has one",
            )
        return f"no GPU found: CPU instead, {os.cpu_count()} cores"
    names = []
    for index in range(torch.cuda.device_count()):
        names.append(torch.cuda.get_device_name(index))
        ones = torch.ones(8, 8, device=f"cuda:{index}")
        if float((ones @ ones).sum()) != 512.0:
            raise CheckFailed(f"GPU {index} ({names[-1]}) computes wrong numbers", "check its driver")
    unused = "" if wanted else "; this run trains on the CPU: resources.gpus_per_trial is 0"
    return f"{', '.join(names)}{unused}"
