"""The small site and one Ray for the tests of training."""

from tests.training.small_run import small_dataset, small_ray

__all__ = ["small_dataset", "small_ray"]
