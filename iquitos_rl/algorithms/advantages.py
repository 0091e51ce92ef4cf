"""Generalised advantage estimation over the fragments of a rollout."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iquitos_rl.algorithms.fragment import Fragment

__all__ = ["generalised_advantages"]


def generalised_advantages(
    fragment: Fragment, values: NDArray[np.float32], gamma: float, lambda_: float
) -> NDArray[np.float32]:
    """Advantages of every step of a fragment (Schulman et al. 2015, arXiv:1506.02438).

    An episode that was truncated, or that merely goes on behind the fragment, is bootstrapped with the value
    of the observation after its last step; a terminated one with 0.

    Args:
        fragment: T steps of N environments.
        values: of its observations, shape (T + 1, N).
        gamma: discount per step, 0-1.
        lambda_: 0 (one-step differences) to 1 (discounted returns).

    Returns:
        Shape (T, N); 0 in rows that are not real. Added to ``values[:-1]`` they are the value targets.
    """
    goes_on = gamma * lambda_ * ~(fragment.terminated | fragment.truncated)
    deltas = fragment.rewards + gamma * values[1:] * ~fragment.terminated - values[:-1]
    # A row that is not real passes nothing on to the one before: the episode ended there, or was cut.
    deltas *= fragment.real
    goes_on = (goes_on * fragment.real).astype(np.float32)
    advantages = np.empty_like(deltas, dtype=np.float32)
    later = np.zeros(deltas.shape[1], np.float32)
    for t in range(len(deltas) - 1, -1, -1):
        later = deltas[t] + goes_on[t] * later
        advantages[t] = later
    return advantages
