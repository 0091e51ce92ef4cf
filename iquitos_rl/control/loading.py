"""A controller by its name, or by the folder of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from iquitos_rl.algorithms.policy import DESCRIPTION_FILE, PolicyError, load_policy
from iquitos_rl.control.best_rule import BestRule
from iquitos_rl.control.controller import Controller, RandomControl
from iquitos_rl.control.mpc import Mpc
from iquitos_rl.control.oracle import ORACLE, parse_oracle
from iquitos_rl.control.policy import TrainedPolicy
from iquitos_rl.control.rules import SHORT_NAMES, parse_rule

__all__ = ["BEST_POLICY", "CONTROLLERS", "LATEST_POLICY", "ControllerError", "load_controller"]

CONTROLLERS: dict[str, Callable[[], Controller]] = {
    "best_rule": BestRule,
    "mpc": Mpc,
    "random": RandomControl,
}
"""Controllers that need no training and are not made of two rules, by name."""
BEST_POLICY = "best_policy"
"""Folder within a checkpoint: the policy with the best validation so far."""
LATEST_POLICY = "policy"
"""Folder within a checkpoint: the policy at the time of the checkpoint."""


class ControllerError(ValueError):
    """A controller that is not there or cannot be used; the text says so in one line."""


def load_controller(name_or_path: str | Path, *, latest: bool = False) -> Controller:
    """A controller.

    Args:
        name_or_path: a name of `CONTROLLERS`, the folder of a checkpoint or of a policy, or that of a trial,
            whose newest checkpoint is taken.
        latest: of a checkpoint, the policy at its time rather than the best by validation.

    Raises:
        ControllerError: no such controller, or a folder without a usable policy.
    """
    factory = CONTROLLERS.get(str(name_or_path))
    if factory is not None:
        return factory()
    made = parse_rule(str(name_or_path)) or parse_oracle(str(name_or_path))
    if made is not None:
        return made
    folder = policy_folder(Path(name_or_path), latest=latest)
    try:
        return TrainedPolicy(load_policy(folder), folder)
    except PolicyError as error:
        raise ControllerError(str(error)) from None


def policy_folder(path: Path, *, latest: bool = False) -> Path:
    """The policy folder that a checkpoint, a trial or a policy folder means. Raises ControllerError."""
    if not path.is_dir():
        known = ", ".join([*SHORT_NAMES, *CONTROLLERS, ORACLE])
        raise ControllerError(
            f"{path}: neither a controller ({known}, or two rules such as laxity_first+idle) "
            "nor the folder of a checkpoint"
        )
    order = (LATEST_POLICY,) if latest else (BEST_POLICY, LATEST_POLICY)
    for folder in (path, *(path / name for name in order)):
        if (folder / DESCRIPTION_FILE).is_file():
            return folder
    for checkpoint in sorted(path.glob("checkpoint_*"), reverse=True):
        # The newest has no policy if it was being written when a process was killed.
        for folder in (checkpoint / name for name in order):
            if (folder / DESCRIPTION_FILE).is_file():
                return folder
    agents = sorted(folder.name for folder in path.iterdir() if any(folder.glob("checkpoint_*")))
    if agents:
        raise ControllerError(f"{path}: an experiment; name one of its agents: {', '.join(agents)}")
    raise ControllerError(
        f"{path}: no policy in this folder; give a checkpoint such as runs/EXPERIMENT/TRIAL/checkpoint_000000"
    )
