"""Made-up fragments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from iquitos_rl.algorithms.fragment import Fragment


def single(
    rewards: Sequence[float],
    terminated: Sequence[bool],
    truncated: Sequence[bool],
    real: Sequence[bool] | None = None,
) -> Fragment:
    """A fragment of one environment; its observations count the rows."""
    steps = len(rewards)

    def column(values: Sequence[float] | Sequence[bool], kind: type) -> np.ndarray:
        return np.array(values, kind)[:, None]

    return Fragment(
        observations=np.arange(steps + 1, dtype=np.float32)[:, None, None],
        actions=np.zeros((steps, 1, 1), np.float32),
        log_probs=np.zeros((steps, 1), np.float32),
        rewards=column(rewards, np.float32),
        terminated=column(terminated, bool),
        truncated=column(truncated, bool),
        real=column([True] * steps if real is None else real, bool),
    )


def random_fragment(
    seed: int,
    steps: int = 20,
    environments: int = 3,
    observation: int = 4,
    action: int = 2,
    ends: float = 0.1,
) -> Fragment:
    """Random numbers, with episodes that end for good or are cut about every 1 / `ends` steps, and resets."""
    random = np.random.default_rng(seed)
    shape = (steps, environments)
    terminated, truncated, real = (np.zeros(shape, bool) for _ in range(3))
    waiting = np.zeros(environments, bool)
    for t in range(steps):
        real[t] = ~waiting
        terminated[t] = real[t] & (random.random(environments) < ends / 2)
        truncated[t] = real[t] & ~terminated[t] & (random.random(environments) < ends / 2)
        waiting = terminated[t] | truncated[t]
    return Fragment(
        observations=random.normal(size=(steps + 1, environments, observation)).astype(np.float32),
        actions=random.normal(size=(*shape, action)).astype(np.float32),
        log_probs=random.normal(size=shape).astype(np.float32),
        rewards=np.where(real, random.normal(size=shape), 0.0).astype(np.float32),
        terminated=terminated,
        truncated=truncated,
        real=real,
    )


def episodes_of(fragment: Fragment) -> list[SingleAgentEpisode]:
    """The same steps as RLlib's runner would have handed them over."""
    episodes = []
    for n in range(fragment.real.shape[1]):
        rows: list[int] = []
        for t in range(len(fragment.real)):
            if fragment.real[t, n]:
                rows.append(t)
            ends = fragment.terminated[t, n] or fragment.truncated[t, n]
            if rows and (ends or t == len(fragment.real) - 1):
                episodes.append(
                    SingleAgentEpisode(
                        observations=[
                            *fragment.observations[rows, n],
                            fragment.observations[rows[-1] + 1, n],
                        ],
                        actions=list(fragment.actions[rows, n]),
                        rewards=fragment.rewards[rows, n].tolist(),
                        terminated=bool(fragment.terminated[rows[-1], n]),
                        truncated=bool(fragment.truncated[rows[-1], n]),
                        extra_model_outputs={Columns.ACTION_LOGP: list(fragment.log_probs[rows, n])},
                        len_lookback_buffer=0,
                    ).to_numpy()
                )
                rows = []
    return episodes


def sorted_rows(*columns: Any) -> np.ndarray:
    """Rows of samples, in an order of their own: the two pipelines have them in different ones."""
    rows = np.concatenate([np.asarray(c, np.float64).reshape(len(c), -1) for c in columns], axis=1)
    return rows[np.lexsort(rows.T[::-1])]
