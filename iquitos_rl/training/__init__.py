"""Training on Ray: one Tune experiment over the algorithms of a run."""

from iquitos_rl.training.tuner import ExperimentError, TrainingOutcome, restore, train

__all__ = ["ExperimentError", "TrainingOutcome", "restore", "train"]
