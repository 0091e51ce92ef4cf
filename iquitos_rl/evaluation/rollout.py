"""A controller on a stretch of a year, hour by hour."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from iquitos_rl.control.controller import Controller
from iquitos_rl.env.charging_env import EVChargingEnv

__all__ = ["Progress", "Rollout", "rollout"]

Progress = Callable[[int, int], None]
"""Called with the number of steps done and the number in all."""


@dataclass(frozen=True)
class Rollout:
    """What happened.

    Attributes:
        hours: one row per hour: the flows of `EVChargingEnv`'s info, and the reward.
        bess_stored_change_kwh: energy in the BESS at the end less that at the start.
    """

    hours: pd.DataFrame
    bess_stored_change_kwh: float


def rollout(
    env: EVChargingEnv, controller: Controller, start_step: int, progress: Progress | None = None
) -> Rollout:
    """Run ``controller`` through one episode of ``env``, deterministically.

    The episode starts at row ``start_step`` of the environment's first year and has its usual length; masking
    of idle sockets is set to what the controller asks for.
    """
    controller.prepare(env)
    env.mask_idle = controller.mask_idle
    observation, info = env.reset(options={"year": 0, "start_step": start_step})
    stored_at_start = info["bess_stored_kwh"]
    rows = []
    done = False
    while not done:
        observation, reward, terminated, truncated, info = env.step(controller.act(observation))
        done = terminated or truncated
        rows.append({k: v for k, v in info.items() if k != "reward_components"} | {"reward": reward})
        if progress is not None:
            progress(len(rows), env.episode_steps)
    return Rollout(pd.DataFrame(rows), float(info["bess_stored_kwh"]) - float(stored_at_start))
