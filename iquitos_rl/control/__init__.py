"""Everything that controls the site, behind one interface."""

from iquitos_rl.control.controller import Controller, RandomControl, UnsuitableError
from iquitos_rl.control.loading import ControllerError, load_controller
from iquitos_rl.control.mpc import Mpc
from iquitos_rl.control.oracle import ORACLE, Oracle
from iquitos_rl.control.policy import TrainedPolicy
from iquitos_rl.control.rules import Rule

__all__ = [
    "ORACLE",
    "Controller",
    "ControllerError",
    "Mpc",
    "Oracle",
    "RandomControl",
    "Rule",
    "TrainedPolicy",
    "UnsuitableError",
    "load_controller",
]
