"""Everything that controls the site, behind one interface."""

from iquitos_rl.control.controller import Controller, NoControl
from iquitos_rl.control.loading import ControllerError, load_controller
from iquitos_rl.control.policy import TrainedPolicy

__all__ = ["Controller", "ControllerError", "NoControl", "TrainedPolicy", "load_controller"]
