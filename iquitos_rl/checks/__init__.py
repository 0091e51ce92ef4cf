"""The twenty checks: whether a run can be trained on this machine, and on the site that it is meant for."""

from iquitos_rl.checks.check import Outcome, Result
from iquitos_rl.checks.report import Report
from iquitos_rl.checks.validate import validate

__all__ = ["Outcome", "Report", "Result", "validate"]
