"""The same site in both engines, for tests that give both the same actions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from iquitos_rl.env import make_env
from iquitos_rl.env.no_control import unit_reference
from iquitos_rl.env.parity import Recording, differences, interface_differences, record
from tests.parity import actions

UNIT = unit_reference()
"""Divides the objectives by nothing: no reference has to be simulated, no deviation is made smaller."""


class Pair:
    """CityLearn and the batch engine on one schema, or on two that should differ in nothing or in one term.

    The batch engine runs once for each kind of observation; CityLearn, with ``raw``, yields both at once.

    Args:
        schema: what CityLearn reads.
        batch_schema: what the batch engine reads; the same if None.
        raw: compare CityLearn's own observations too.
        options: of both environments.
    """

    def __init__(
        self, schema: Path, batch_schema: Path | None = None, *, raw: bool = True, **options: Any
    ) -> None:
        options = {"reference": UNIT} | options
        self.kinds = ("raw", "features") if raw else ("features",)
        self.citylearn: Any = make_env(schema, engine="citylearn", observation=self.kinds[0], **options)
        self.batch: dict[str, Any] = {
            kind: make_env(batch_schema or schema, engine="batch", observation=kind, **options)
            for kind in self.kinds
        }

    def set_mask(self, mask_idle: bool) -> None:
        """Mask the requests of idle sockets, or not, from the next episode on."""
        for env in (self.citylearn, *self.batch.values()):
            env.mask_idle = mask_idle

    def record(self, name: str, start_step: int, seed: int = 0, steps: int | None = None) -> Recording:
        """Record CityLearn under the actions of this name."""
        made = actions.make(name, self.citylearn, steps or self.citylearn.episode_steps, seed)
        return record(self.citylearn, made, start_step=start_step)

    def differences(self, reference: Recording) -> list[str]:
        """What the batch engine does differently under the actions of a recording."""
        lines: list[str] = []
        for env in self.batch.values():
            lines += differences(reference, record(env, reference.actions, start_step=reference.start_step))
        return list(dict.fromkeys(lines))

    def interface_differences(self) -> list[str]:
        """What differs before the first step."""
        return interface_differences(self.citylearn, self.batch[self.kinds[0]])
