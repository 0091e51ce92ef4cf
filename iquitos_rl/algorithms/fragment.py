"""What a batched env runner hands to the learner: some steps of all its environments, as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Fragment", "FragmentRows"]


@dataclass(frozen=True)
class _StepArrays:
    """The arrays of some steps, see `Fragment`."""

    observations: NDArray[np.float32]
    actions: NDArray[np.float32]
    log_probs: NDArray[np.float32]
    rewards: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    real: NDArray[np.bool_]


@dataclass(frozen=True)
class Fragment(_StepArrays):
    """T steps of the N environments of one runner; RLlib's episodes, but all at once and without a copy.

    Environments begin anew in the step after the end of an episode (Gymnasium's next-step autoreset). That
    step is a row like any other here, except that it is not ``real``: its action was ignored and its reward
    is 0. So ``observations[t + 1]`` always is what followed step t, at the end of an episode too.

    RLlib passes a list of these around as it does with episodes, and asks each for its length, the number of
    real steps.

    Attributes:
        observations: shape (T + 1, N, O), float32; the last row follows the last step.
        actions: shape (T, N, A), float32, as the policy drew them: before they are mapped to the
            environment's bounds.
        log_probs: their log probability under the policy that drew them, shape (T, N).
        rewards: shape (T, N), float32.
        terminated: whether the episode ended for good with the step, shape (T, N).
        truncated: whether it was cut there, so that what would have followed still counts, shape (T, N).
        real: whether the environment was stepped rather than reset, shape (T, N).
        runner: index of the runner; 0 is the one in the algorithm's own process.
        continues: whether its environments went on from the last row of this runner's previous fragment. Not
            if they were reset in between.
        sampler_state: all that the runner needs to go on from the end of this fragment, or to be restarted
            there; None for the local runner, which is asked for it when it is needed.
    """

    runner: int = 0
    continues: bool = False
    sampler_state: Mapping[str, Any] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        """Real environment steps."""
        return int(np.count_nonzero(self.real))

    def env_steps(self) -> int:
        """The same, as RLlib asks its episodes."""
        return len(self)

    def agent_steps(self) -> int:
        """The same: one agent acts in each environment."""
        return len(self)

    def __getitem__(self, which: slice) -> Fragment:
        """The first ``which.stop`` real steps, in the order of time."""
        return self.slice(which)

    def slice(self, which: slice, len_lookback_buffer: int | None = None) -> Fragment:
        """The real steps from ``which.start`` to ``which.stop``: how RLlib shares data among learners.

        Rows are cut at whole steps where possible; a row that the cut goes through is in both parts, each
        with its own environments marked as real. The advantages of the first part then stop at the value of
        the cut, as they do at the end of a fragment.

        Raises:
            ValueError: a step other than 1.
        """
        start, stop, step = which.indices(len(self))
        if step != 1:
            raise ValueError(f"fragments are cut into consecutive steps, not with a stride of {step}")
        numbers = np.cumsum(self.real.reshape(-1)).reshape(self.real.shape)
        kept = self.real & (numbers > start) & (numbers <= stop)
        rows = np.flatnonzero(kept.any(axis=1))
        first, last = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
        part = np.s_[first:last]
        return replace(
            self,
            observations=self.observations[first : last + 1],
            actions=self.actions[part],
            log_probs=self.log_probs[part],
            rewards=self.rewards[part],
            terminated=self.terminated[part],
            truncated=self.truncated[part],
            real=kept[part],
            continues=self.continues and start == 0,
            sampler_state=None,
        )


@dataclass(frozen=True)
class FragmentRows(_StepArrays):
    """Arrays for the rows of a fragment; they grow where more rows are needed than expected."""

    @classmethod
    def of(cls, rows: int, environments: int, observation: int, action: int) -> FragmentRows:
        """Room for so many rows, of observations and actions of these lengths."""
        shape = (rows, environments)
        return cls(
            observations=np.empty((rows + 1, environments, observation), np.float32),
            actions=np.empty((*shape, action), np.float32),
            log_probs=np.zeros(shape, np.float32),
            rewards=np.empty(shape, np.float32),
            terminated=np.empty(shape, bool),
            truncated=np.empty(shape, bool),
            real=np.empty(shape, bool),
        )

    def __len__(self) -> int:
        return len(self.rewards)

    def grown(self) -> FragmentRows:
        """Twice as many rows, the first of them these."""
        more = len(self)
        extra = {name: np.zeros((more, *a.shape[1:]), a.dtype) for name, a in vars(self).items()}
        return FragmentRows(**{name: np.concatenate((a, extra[name])) for name, a in vars(self).items()})

    def first(self, rows: int) -> dict[str, NDArray[Any]]:
        """The first rows, and the observations after them."""
        return {n: a[: rows + (1 if n == "observations" else 0)] for n, a in vars(self).items()}
