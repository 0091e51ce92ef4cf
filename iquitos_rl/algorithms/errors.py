"""Errors that end a training for a reason in the training itself."""

from __future__ import annotations

__all__ = ["NonFiniteActionError", "NonFiniteGradientError"]


class NonFiniteGradientError(ArithmeticError):
    """A gradient with NaN or infinite entries, which was not applied.

    Args:
        algorithm: its name.
        update: number of the learner's update, from 1.
        env_steps: environment steps sampled before it.
        losses: the loss's parts by name; those that are not finite are named.
    """

    def __init__(self, algorithm: str, update: int, env_steps: int, losses: dict[str, float]):
        wrong = [f"{name} = {value}" for name, value in losses.items() if not abs(value) < float("inf")]
        super().__init__(
            f"{algorithm}: the gradient of update {update} (after {env_steps} env steps) is not finite"
            + (f", because of {', '.join(wrong)}" if wrong else "")
            + "; it was not applied. Lower the learning_rate, and look at the observations and "
            "rewards of a site of your own"
        )
        self._arguments = (algorithm, update, env_steps, losses)

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        """Ray sends errors between processes."""
        return type(self), self._arguments


class NonFiniteActionError(ArithmeticError):
    """A policy that returned NaN or infinite actions; the environment was not stepped.

    Args:
        runner: index of the env runner; 0 is the one in the algorithm's own process.
    """

    def __init__(self, runner: int) -> None:
        super().__init__(
            f"the policy's actions are not finite (env runner {runner}): either its weights or the "
            "observations are not; restore an earlier checkpoint, with a lower learning_rate"
        )
        self._runner = runner

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        """Ray sends errors between processes."""
        return type(self), (self._runner,)
