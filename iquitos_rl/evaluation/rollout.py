"""A controller on a stretch of a year, hour by hour; on the batch engine, all days side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from iquitos_rl.control.controller import Controller
from iquitos_rl.env.batch.engine import BatchEngine
from iquitos_rl.env.batch.flows import hourly_flows
from iquitos_rl.env.batch.simulator import BatchSimulator
from iquitos_rl.env.batch.situation import EngineState, engine_situation, engine_state, restore_state
from iquitos_rl.env.charging_env import EVChargingEnv
from iquitos_rl.env.situation import Situation
from iquitos_rl.evaluation.departures import departures_of
from iquitos_rl.kpis import HOURS_PER_DAY
from iquitos_rl.objectives import NoControlReference

__all__ = ["Progress", "Rollout", "rollout"]

Progress = Callable[[int, int], None]
"""Called with the number of steps done and the number in all."""
PATIENT_PASSES = 3
"""After so many passes each must at least halve the days that wait."""
SOCKET_COLUMNS = ("occupied", "hours_left", "required_soc", "capacity_kwh", "start_soc", "end_soc")
"""Arguments of `departures_of` that are recorded in every hour."""


@dataclass(frozen=True)
class Rollout:
    """What happened.

    Attributes:
        hours: one row per hour: the flows of `EVChargingEnv`'s info, and the reward.
        departures: one row per vehicle that left, see `departures_of`.
        bess_stored_change_kwh: energy in the BESS at the end less that at the start.
    """

    hours: pd.DataFrame
    departures: pd.DataFrame
    bess_stored_change_kwh: float


def rollout(
    env: EVChargingEnv,
    controller: Controller,
    start_step: int,
    reference: NoControlReference | None = None,
    training_schemas: tuple[Path, ...] = (),
    progress: Progress | None = None,
) -> Rollout:
    """Run ``controller`` through one episode of ``env``, deterministically.

    The episode starts at row ``start_step`` of the environment's first year and has its usual length; masking
    of idle sockets is set to what the controller asks for. On the batch engine the days of a controller
    without memory are simulated side by side, which gives the same numbers some ten times faster (those of
    a neural network within its rounding, which depends on how many observations it is given at once).

    Args:
        env: the environment.
        controller: what acts.
        start_step: first hour of the year.
        reference: no control's values on these very hours, for controllers that minimise the score; the
            environment's own if left out.
        training_schemas: years that a controller may learn from.
        progress: called as hours are done.
    """
    env.mask_idle = controller.mask_idle
    _, info = env.reset(options={"year": 0, "start_step": start_step})
    stored = float(info["bess_stored_kwh"])
    if int(env.situation().site.hour[0]) != start_step % HOURS_PER_DAY:
        raise ValueError(
            f"{env.schemas[0]}: its first row is not the first hour of a day, so that days, and their "
            "peaks, cannot be told from its rows"
        )
    reference = reference or env.reference
    controller.prepare(replace(env.episode, reference=reference, training_schemas=training_schemas))
    by_days = controller.memoryless and controller.observation != "raw"
    if by_days and isinstance(env.simulator, BatchSimulator):
        hours, sockets = _days_side_by_side(env, controller, start_step, progress)
    else:
        hours, sockets = _hour_by_hour(env, controller, progress)
    departures = departures_of(env.plant.socket_names, start_step, **sockets)
    change = float(hours["bess_stored_kwh"][-1]) - stored
    return Rollout(pd.DataFrame(hours), departures, change)


Columns = dict[str, NDArray[Any]]


def _socket_columns(situation: Situation) -> Columns:
    """What `departures_of` needs of the start of an hour, copied; each of shape (sites, sockets)."""
    sockets = situation.sockets
    return {
        "occupied": sockets.occupied.copy(),
        "hours_left": sockets.hours_to_departure.copy(),
        "required_soc": sockets.required_soc.copy(),
        "capacity_kwh": sockets.capacity_kwh.copy(),
        "start_soc": sockets.soc.copy(),
    }


def _hour_by_hour(
    env: EVChargingEnv, controller: Controller, progress: Progress | None
) -> tuple[Columns, Columns]:
    flows: list[dict[str, Any]] = []
    sockets: list[Columns] = []
    done = False
    while not done:
        situation = env.situation()
        before = _socket_columns(situation)
        _, reward, terminated, truncated, info = env.step(controller.act(situation)[0])
        done = terminated or truncated
        flows.append({k: v for k, v in info.items() if k != "reward_components"} | {"reward": reward})
        sockets.append(before | {"end_soc": env.simulator.end_soc()[None]})
        if progress is not None:
            progress(len(flows), env.episode_steps)
    hours = {name: np.array([flow[name] for flow in flows]) for name in flows[0]}
    return hours, {name: np.concatenate([hour[name] for hour in sockets]) for name in SOCKET_COLUMNS}


def _days_side_by_side(
    env: EVChargingEnv, controller: Controller, start_step: int, progress: Progress | None
) -> tuple[Columns, Columns]:
    """Simulate all days at once, each from the state in which the day before ended.

    That state is not known at first. So every day is begun in the state of a new episode; a day whose
    predecessor ended in another one is simulated again from that, until none is left. What is then on record
    is what one pass from hour to hour would have given, since nothing but its state at the start connects a
    day with those before. A BESS that is empty or full at midnight needs two passes. Where a day never
    forgets the one before (a battery that wears), this gets nowhere, and is given up for hour by hour.
    """
    steps = env.episode_steps
    lengths = np.diff([*range(0, steps, HOURS_PER_DAY), steps])
    days = len(lengths)
    record: Columns = {}
    starts: EngineState | None = None
    pending = np.arange(days)
    passes, waiting = 0, days
    while len(pending):
        passes, waiting, before = passes + 1, len(pending), waiting
        if passes > PATIENT_PASSES and 2 * waiting > before:
            return _hour_by_hour(env, controller, progress)
        last = pending[pending == days - 1]  # may be cut short, and has no successor
        if starts is None:
            starts = engine_state(_engine_at(env, controller, start_step, pending))
        for group in (pending[pending < days - 1], last):
            if not len(group):
                continue
            engine = _engine_at(env, controller, start_step, group)
            restore_state(engine, starts.of(group))
            _simulate(env, engine, controller, int(lengths[group[0]]), group, record, days)
            if group is not last:
                ends, following = engine_state(engine), group + 1
        if len(pending) == len(last):
            break
        changed = np.flatnonzero(ends.differs(starts.of(following)))
        pending = following[changed]
        starts.put(pending, ends.of(changed))
        if progress is not None:
            progress(steps - int(lengths[pending].sum()), steps)
    # From (hours of the day, days, ...) to the order of time, without what lies beyond the end.
    flat = {
        name: values.swapaxes(0, 1).reshape(-1, *values.shape[2:])[:steps] for name, values in record.items()
    }
    return {n: v for n, v in flat.items() if n not in SOCKET_COLUMNS}, {n: flat[n] for n in SOCKET_COLUMNS}


def _engine_at(
    env: EVChargingEnv, controller: Controller, start_step: int, days: NDArray[np.intp]
) -> BatchEngine:
    """An engine with an environment for each of these days of the window."""
    engine = BatchEngine(
        env.engine.years,
        len(days),
        mask_idle=controller.mask_idle,
        weights=env.weights,
        reference=env.reference,
    )
    engine.reset(np.arange(len(days)), np.zeros(len(days), np.intp), start_step + days * HOURS_PER_DAY)
    return engine


def _simulate(
    env: EVChargingEnv,
    engine: BatchEngine,
    controller: Controller,
    steps: int,
    days: NDArray[np.intp],
    record: Columns,
    count: int,
) -> None:
    """Simulate days on one environment each, and enter them into the record.

    Args:
        env: for the bounds of the action.
        engine: at the start of the days.
        controller: what acts.
        steps: hours of each day.
        days: their numbers in the record.
        record: arrays of shape (24, count, ...), made here at the first hour.
        count: number of days in the record.
    """
    low, high = env.action_space.low, env.action_space.high
    for hour in range(steps):
        situation = engine_situation(engine)
        before = _socket_columns(situation)
        action = np.clip(controller.act(situation), low, high)
        if not np.isfinite(action).all():
            raise ValueError(f"{controller.name}: action with a value that is not finite")
        outcome = engine.step(action)
        values: Mapping[str, NDArray[Any]] = {
            **hourly_flows(engine),
            "reward": outcome.reward,
            **before,
            "end_soc": outcome.sockets_soc,
        }
        for name, value in values.items():
            if name not in record:
                record[name] = np.zeros((HOURS_PER_DAY, count, *value.shape[1:]), value.dtype)
            record[name][hour, days] = value
