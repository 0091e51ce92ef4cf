"""The small site, and policies without training."""

from tests.training.small_run import small_dataset

__all__ = ["small_dataset"]
