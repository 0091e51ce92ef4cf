"""Training on Ray: one Tune experiment over the algorithms of a run."""

from iquitos_rl.training.experiment import ExperimentError
from iquitos_rl.training.tuner import EvaluationError, TrainingOutcome, restore, train

__all__ = ["EvaluationError", "ExperimentError", "TrainingOutcome", "restore", "train"]
