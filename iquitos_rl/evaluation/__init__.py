"""Rollouts, key performance indicators and comparisons."""

from iquitos_rl.evaluation.compare import compare
from iquitos_rl.evaluation.evaluate import Evaluation, Evaluator, evaluate

__all__ = ["Evaluation", "Evaluator", "compare", "evaluate"]
