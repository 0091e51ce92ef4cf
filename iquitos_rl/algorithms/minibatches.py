"""Minibatches of a rollout: every sample exactly once per epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch

__all__ = ["ShuffledMinibatches"]


class ShuffledMinibatches:
    """Every sample exactly once per epoch, in an order drawn anew for each epoch.

    2,048 samples in minibatches of 146 are 14 full ones and a last one of 4.

    Args:
        batch: One module's samples, all columns tensors of the same first dimension.
        minibatch_size: Samples per minibatch, >= 1.
        epochs: Passes over the batch, >= 1.
        rng: Draws the orders.
        minibatches_per_epoch: Where each epoch ends at the latest; None = with the last sample. Several
            learners must agree on it, for each waits for the others at every minibatch.
    """

    def __init__(
        self,
        batch: MultiAgentBatch,
        *,
        minibatch_size: int,
        epochs: int,
        rng: np.random.Generator,
        minibatches_per_epoch: int | None = None,
    ):
        self._batch = batch
        ((self._module_id, self._samples),) = batch.policy_batches.items()
        self._minibatch_size = minibatch_size
        self._epochs = epochs
        self._rng = rng
        count = -(-len(self._samples) // minibatch_size)
        self.minibatches_per_epoch = count if minibatches_per_epoch is None else minibatches_per_epoch
        self._stopped = False

    def stop(self) -> None:
        """Yield no further minibatch, in this epoch or a later one."""
        self._stopped = True

    def __iter__(self) -> Iterator[MultiAgentBatch]:
        columns: dict[str, Any] = dict(self._samples)
        for _ in range(self._epochs):
            if self._minibatch_size >= len(self._samples):  # all at once: no order matters
                if self._stopped:
                    return
                yield self._batch
                continue
            order = torch.from_numpy(self._rng.permutation(len(self._samples)))
            for rows in order.split(self._minibatch_size)[: self.minibatches_per_epoch]:
                if self._stopped:
                    return
                minibatch = {
                    name: column.index_select(0, rows.to(column.device)) for name, column in columns.items()
                }
                yield MultiAgentBatch({self._module_id: SampleBatch(minibatch)}, env_steps=len(rows))
