"""Whether the batch engine equals CityLearn: the same actions in both, every quantity of every hour compared.

`record` steps an environment of either engine and keeps all that can be compared; `deviations` and
`differences` compare two such recordings; `check_parity` does it all for one schema with random actions.
Numbers a (CityLearn) and b are equal if |a - b| <= 1e-4 max(1, |a|), each in its own unit: CityLearn keeps
single precision, and adds in another order.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iquitos_rl.env.no_control import unit_reference
from iquitos_rl.env.observation import feature_vector
from iquitos_rl.env.registration import make_env
from iquitos_rl.objectives import OBJECTIVES

__all__ = [
    "TOLERANCE",
    "Deviation",
    "ParityReport",
    "Policy",
    "Recording",
    "check_parity",
    "deviations",
    "differences",
    "interface_differences",
    "record",
]

TOLERANCE = 1e-4
"""Largest |a - b| / max(1, |a|) of equal numbers a and b."""

OBSERVATIONS = ("raw", "features")
HOUR_QUANTITIES = ("net_kwh", "cost_usd", "emission_kg", "pv_kwh", "load_kwh", "bess_kwh", "bess_soc")
SOCKET_QUANTITIES = ("sockets_kwh", "sockets_balance_kwh", "sockets_soc")

FloatArray = NDArray[np.float64]
Policy = Callable[[int, NDArray[np.float32]], NDArray[Any]]
"""Action for a step's number (from 0) and the ``features`` observation before it."""


@dataclass(frozen=True)
class Recording:
    """An episode of one environment.

    Attributes:
        engine: which engine simulated it.
        start_step: first row of the data.
        actions: as given to the environment, shape (steps, actions).
        columns: names of the columns of those quantities that have several.
        values: quantities over time. ``raw`` and ``features``, as far as recorded, have steps + 1 rows, from
            the observation of the reset on; ``reset.*``, the numbers of the reset's info, have one; all
            others have one row for each hour: ``reward``, ``reward_components``,
            ``terminated``, ``truncated``, ``info.*`` (each number of the step's info), ``net_kwh``,
            ``cost_usd``, ``emission_kg``, ``pv_kwh``, ``load_kwh``, ``bess_kwh`` (taken from the site),
            ``bess_soc`` (after the hour), and by socket ``sockets_kwh`` (taken from the site),
            ``sockets_balance_kwh`` (of the vehicle's battery), ``sockets_soc`` (after the hour); the last two
            are 0 without a vehicle.
    """

    engine: str
    start_step: int
    actions: NDArray[Any]
    columns: Mapping[str, Sequence[str]]
    values: Mapping[str, FloatArray]

    def __getitem__(self, quantity: str) -> FloatArray:
        """A quantity over time."""
        return self.values[quantity]


@dataclass(frozen=True)
class Deviation:
    """How far apart a quantity of two recordings is.

    Attributes:
        quantity: what differs.
        relative: the largest |a - b| / max(1, |a|); infinite if only one of them is a number.
        step, column, a, b: where that is, and both values.
        first_step: where it first exceeds the tolerance; None if it never does.
    """

    quantity: str
    relative: float
    step: int
    column: str
    a: float
    b: float
    first_step: int | None

    def __str__(self) -> str:
        where = f"{self.quantity}{f' {self.column}' if self.column else ''}, step {self.step}"
        first = "" if self.first_step in (None, self.step) else f", first apart in step {self.first_step}"
        return f"{where}: {self.a:.9g} and {self.b:.9g}, {self.relative:.2e} of max(1, |a|){first}"


def record(
    env: Any,
    actions: NDArray[Any] | Policy,
    *,
    start_step: int = 0,
    year: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Recording:
    """Step an environment through an episode and keep what can be compared.

    An environment of CityLearn with ``observation="raw"`` yields both observations at once.

    Args:
        env: from `make_env`, with either engine.
        actions: shape (at most ``env.episode_steps``, actions), or a policy for a whole episode. A policy
            needs the ``features``.
        start_step: first row of the data.
        year: number of the schema.
        progress: called with the number of hours simulated, after each.

    Raises:
        ValueError: more actions than steps, or a policy without features to decide on.
    """
    recorder = _Recorder(env)
    count = env.episode_steps if callable(actions) else len(actions)
    if count > env.episode_steps:
        raise ValueError(f"{count} actions for an episode of {env.episode_steps} steps")
    window = {"year": year, "start_step": start_step}
    observation, reset_info = env.reset(options=window)
    if recorder.engine == "citylearn" and env.site.building._charging_constraint_last_penalty_kwh:
        # CityLearn begins an episode with the violation of the feeder's limit that ended the one before.
        env.site.building._charging_constraint_last_penalty_kwh = 0.0
        observation, reset_info = env.reset(options=window)
    recorder.observe(observation)
    given = []
    for step in range(count):
        action = actions(step, recorder.features()) if callable(actions) else actions[step]
        observation, reward, terminated, truncated, info = env.step(action)
        recorder.step(observation, reward, terminated, truncated, info)
        given.append(action)
        if progress:
            progress(step + 1)
    return Recording(
        engine=recorder.engine,
        start_step=start_step,
        actions=np.array(given),
        columns=recorder.columns,
        values=recorder.values() | {f"reset.{k}": np.array([float(v)]) for k, v in reset_info.items()},
    )


class _Recorder:
    """Collects the rows of one recording."""

    def __init__(self, env: Any) -> None:
        self.env = env
        self.engine = "batch" if hasattr(env, "engine") else "citylearn"
        sockets = tuple(env.action_names[int(env.has_bess) :])
        layout = env.layout
        self.columns: dict[str, Sequence[str]] = {
            env.observation_kind: tuple(env.observation_names),
            "features": tuple(layout.names),
            "reward_components": OBJECTIVES,
            **dict.fromkeys(SOCKET_QUANTITIES, sockets),
        }
        self.rows: dict[str, list[Any]] = {}

    def _add(self, **values: Any) -> None:
        for name, value in values.items():
            self.rows.setdefault(name, []).append(value)

    def observe(self, observation: NDArray[np.float32]) -> None:
        self._add(**{self.env.observation_kind: np.array(observation)})
        if self.env.observation_kind == "raw" and self.engine == "citylearn":
            env, site = self.env, self.env.site
            self._add(
                features=feature_vector(
                    site.site_state(), site.socket_state(), site.scales, env.layout, env.layout.bounds
                )
            )

    def features(self) -> NDArray[np.float32]:
        if "features" not in self.rows:
            raise ValueError("a policy needs observation='features', or CityLearn")
        latest: NDArray[np.float32] = self.rows["features"][-1]
        return latest

    def step(
        self,
        observation: NDArray[np.float32],
        reward: float,
        terminated: bool,
        truncated: bool,
        info: Mapping[str, Any],
    ) -> None:
        self._add(reward=reward, terminated=terminated, truncated=truncated)
        self._add(reward_components=[info["reward_components"][name] for name in OBJECTIVES])
        self._add(**{f"info.{k}": float(v) for k, v in info.items() if k != "reward_components"})
        self._add(**(_batch_hour(self.env) if self.engine == "batch" else _citylearn_hour(self.env)))
        self.observe(observation)

    def values(self) -> dict[str, FloatArray]:
        return {name: np.array(rows, dtype=np.float64) for name, rows in self.rows.items()}


def _citylearn_hour(env: Any) -> dict[str, Any]:
    """The hour just simulated, out of CityLearn's own objects."""
    site = env.site
    building, t = site.building, site.t - 1
    balance, soc = np.zeros(len(site.chargers)), np.zeros(len(site.chargers))
    for socket in np.flatnonzero(site._occupied[t]):
        battery = site._vehicles[site._vehicle[t, socket]].battery
        balance[socket], soc[socket] = battery.energy_balance[t], battery.soc[t]
    storage = building.electrical_storage if site.has_bess else None
    return {
        "net_kwh": building.net_electricity_consumption[t],
        "cost_usd": building.net_electricity_consumption_cost[t],
        "emission_kg": building.net_electricity_consumption_emission[t],
        "pv_kwh": -building.solar_generation[t],
        "load_kwh": building.non_shiftable_load_electricity_consumption[t],
        "bess_kwh": storage.electricity_consumption[t] if storage else 0.0,
        "bess_soc": storage.soc[t] if storage else 0.0,
        "sockets_kwh": [charger.electricity_consumption[t] for charger in site.chargers],
        "sockets_balance_kwh": balance,
        "sockets_soc": soc,
    }


def _batch_hour(env: Any) -> dict[str, Any]:
    """The hour just simulated by a batch of one."""
    hour = env.engine.hour
    return {
        name: np.array(getattr(hour, name)[0], dtype=np.float64)
        for name in (*HOUR_QUANTITIES, *SOCKET_QUANTITIES)
    }


def deviations(a: Recording, b: Recording, tolerance: float = TOLERANCE) -> dict[str, Deviation]:
    """The largest deviation of each quantity that both recordings have; infinite where their shapes differ.

    Raises:
        ValueError: the recordings have different actions, or no observation in common.
    """
    if a.start_step != b.start_step or not np.array_equal(a.actions, b.actions):
        raise ValueError("recordings of different windows or actions")
    common = [name for name in a.values if name in b.values]
    if not set(common) & set(OBSERVATIONS):
        raise ValueError("no observation in common: record CityLearn with observation='raw'")
    return {name: _deviation(name, a, b, tolerance) for name in common}


def _deviation(name: str, a: Recording, b: Recording, tolerance: float) -> Deviation:
    left, right = a[name], b[name]
    if left.shape != right.shape:
        return Deviation(name, np.inf, 0, f"of shape {left.shape} and {right.shape}", np.nan, np.nan, 0)
    left, right = left.reshape(len(left), -1), right.reshape(len(right), -1)
    with np.errstate(invalid="ignore"):
        relative = np.abs(left - right) / np.maximum(1.0, np.abs(left))
    relative[(left == right) | (np.isnan(left) & np.isnan(right))] = 0.0  # equal infinities included
    relative[np.isnan(relative)] = np.inf
    if not relative.size:
        return Deviation(name, 0.0, 0, "", np.nan, np.nan, None)
    step, column = (int(i) for i in np.unravel_index(np.argmax(relative), relative.shape))
    apart = np.flatnonzero((relative > tolerance).any(axis=1))
    names = a.columns.get(name, ())
    return Deviation(
        quantity=name,
        relative=float(relative[step, column]),
        step=step,
        column=names[column] if names else "",
        a=float(left[step, column]),
        b=float(right[step, column]),
        first_step=int(apart[0]) if len(apart) else None,
    )


def differences(a: Recording, b: Recording, tolerance: float = TOLERANCE) -> list[str]:
    """What differs between two recordings of the same actions, one readable line for each quantity.

    ``a`` is the reference. What differs first comes first, since later differences may follow from it;
    quantities that only one of them has are listed too, except for the observation that was not recorded.
    Raises as `deviations`.
    """
    found = [d for d in deviations(a, b, tolerance).values() if d.first_step is not None]
    # An observation of step n is seen before what is simulated in step n.
    found.sort(key=lambda d: (d.first_step, d.quantity not in OBSERVATIONS, -d.relative))
    lines = [str(d) for d in found]
    alone = sorted((a.values.keys() ^ b.values.keys()) - set(OBSERVATIONS))
    lines += [f"{name}: only {a.engine if name in a.values else b.engine} has it" for name in alone]
    lines += [
        f"columns of {name} differ"
        for name in sorted(a.values.keys() & b.values.keys())
        if tuple(a.columns.get(name, ())) != tuple(b.columns.get(name, ()))
    ]
    return lines


def interface_differences(a: Any, b: Any) -> list[str]:
    """What a learner could see of two environments before their first step, and is not the same in both."""
    lines = [
        f"{name}: {getattr(a, name)} and {getattr(b, name)}"
        for name in ("action_names", "has_bess", "episode_steps", "observation_kind", "mask_idle")
        if getattr(a, name) != getattr(b, name)
    ]
    if list(a.observation_names) != list(b.observation_names):
        lines.append("observation_names differ")
    if a.observation_layout != b.observation_layout:
        lines.append("observation_layout differs")
    for space in ("action_space", "observation_space"):
        if getattr(a, space) != getattr(b, space):
            lines.append(f"{space}: {getattr(a, space)} and {getattr(b, space)}")
    if a.reference.to_json() != b.reference.to_json():
        pairs = zip(a.reference.divisors, b.reference.divisors, strict=True)
        if any(abs(x - y) > TOLERANCE * max(1.0, abs(x)) for x, y in pairs):
            lines.append(f"reference: {a.reference} and {b.reference}")
    return lines


@dataclass(frozen=True)
class ParityReport:
    """Result of `check_parity`.

    Attributes:
        schema: of the site.
        start_step: first row of the data.
        steps: hours compared.
        worst: largest deviation of each quantity.
        differences: one line for each quantity that differs; empty if the engines are equal.
    """

    schema: Path
    start_step: int
    steps: int
    worst: Mapping[str, Deviation]
    differences: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether the engines agree in every quantity of every hour."""
        return not self.differences

    @property
    def largest(self) -> float:
        """The largest relative difference of all."""
        return max((deviation.relative for deviation in self.worst.values()), default=0.0)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "schema": str(self.schema),
            "start_step": self.start_step,
            "steps": self.steps,
            "equal": self.equal,
            "largest_relative_difference": self.largest,
            "differences": list(self.differences),
        }


def check_parity(schema: str | Path, steps: int = 72, seed: int = 0, *, raw: bool = False) -> ParityReport:
    """Simulate random actions with both engines, in a window that the seed chooses.

    Args:
        schema: path of a CityLearn schema.
        steps: length of the window, at most that of the data.
        seed: of the window and the actions.
        raw: compare CityLearn's own observations too. Without it the ``features`` are compared, and CityLearn
            is loaded several times faster.

    Raises:
        FileNotFoundError: no such schema.
        UnsupportedSchemaError: the batch engine does not model this site.
        ValueError: the schema is not one, or has fewer than one step.
    """
    path = Path(schema)
    if not path.is_file():
        raise FileNotFoundError(f"no CityLearn schema at {path}")
    description = json.loads(path.read_text(encoding="utf-8"))
    rows = description["simulation_end_time_step"] - description["simulation_start_time_step"] + 1
    steps = min(steps, rows - 1)
    if steps < 1:
        raise ValueError(f"{path}: {rows} rows and {steps} steps leave nothing to simulate")
    options: dict[str, Any] = {"episode_steps": steps, "reference": unit_reference(), "mask_idle": False}
    kinds = ("raw", "features") if raw else ("features",)
    batch = {kind: make_env(path, engine="batch", observation=kind, **options) for kind in kinds}
    citylearn = make_env(path, engine="citylearn", observation=kinds[0], **options)
    random = np.random.default_rng(seed)
    start = int(random.integers(rows - steps))
    space = citylearn.action_space
    actions = random.uniform(space.low, space.high, (steps, *space.shape))
    reference = record(citylearn, actions, start_step=start)
    worst: dict[str, Deviation] = {}
    lines: list[str] = interface_differences(citylearn, batch[kinds[0]])
    for env in batch.values():
        recording = record(env, actions, start_step=start)
        worst |= deviations(reference, recording)
        lines += differences(reference, recording)
    return ParityReport(path, start, steps, worst, tuple(dict.fromkeys(lines)))
