"""The batch engine's present hour as controllers see it, and what it must remember of it to go on."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iquitos_rl.env.batch.engine import HOUR, BatchEngine
from iquitos_rl.env.batch.years import HOUR_COLUMNS, SiteYears
from iquitos_rl.env.observation import LOOKAHEAD_HOURS, SiteState, SocketState
from iquitos_rl.env.situation import BessPlant, Plant, Situation

__all__ = ["EngineState", "engine_situation", "engine_state", "plant_of", "restore_state"]

Index = NDArray[np.intp]
PV, PRICE, LOAD, CARBON = (HOUR_COLUMNS.index(n) for n in ("pv_kwh", "price", "load_kwh", "carbon_intensity"))
AHEAD = np.arange(1 + LOOKAHEAD_HOURS)


def plant_of(years: SiteYears) -> Plant:
    """The plant of a site's years."""
    site, scales = years.parameters[0], years.scales[0]
    bess = None
    if site.bess is not None:
        curve = np.transpose(site.bess.efficiency_curve)
        bess = BessPlant(
            capacity_kwh=site.bess.capacity_kwh,
            nominal_kw=site.bess.nominal_power_kw,
            floor_soc=site.bess.floor_soc,
            one_way_efficiency=float(np.interp(1.0, *curve)) ** 0.5,
        )
    return Plant(
        socket_names=years.socket_names,
        rated_kw=scales.rated_power_kw,
        charger_efficiency=scales.charger_efficiency,
        may_discharge=np.array([c.max_discharging_kw > 0 for c in site.chargers], bool),
        feeder_limit_kw=scales.feeder_limit_kw,
        bess=bess,
    )


def engine_situation(engine: BatchEngine) -> Situation:
    """The present hour of all environments; arrays may be the engine's own, valid until its next step."""
    tables = engine.years.tables
    first = engine.years.first_row[engine.year]
    last = first + engine.years.rows[engine.year] - 1
    # The last row of the data is repeated beyond its end, as the reference does.
    ahead = tables.hours[np.minimum((first + engine.row)[:, None] + AHEAD, last[:, None])].astype(np.float64)
    now = ahead[:, 0]
    nothing = np.zeros(engine.environments)
    site = SiteState(
        hour_of_year=engine.row.astype(np.float64),
        hour=now[:, HOUR],
        day_type=tables.day_type[np.minimum(first + engine.row, last)].astype(np.float64),
        pv_kwh=ahead[:, :, PV],
        load_kwh=now[:, LOAD],
        price_usd_per_kwh=ahead[:, :, PRICE],
        carbon_intensity_kg_per_kwh=now[:, CARBON],
        bess_soc=nothing if engine.bess_soc is None else engine.bess_soc.astype(np.float64),
        previous_net_kwh=engine.previous_net_kwh.astype(np.float64),
        day_peak_kw=_day_peak_kw(engine),
    )
    sockets = SocketState(
        occupied=engine.occupied,
        soc=engine.soc,
        required_soc=engine.required_soc,
        capacity_kwh=engine.vehicles.capacity_kwh,
        hours_to_departure=engine.hours_left,
    )
    return Situation(site, sockets, engine.observe)


def _day_peak_kw(engine: BatchEngine) -> NDArray[np.float64]:
    """Highest import of the day so far; 0 in its first hour."""
    new_day = engine.years.tables.hours[engine.years.first_row[engine.year] + engine.row, HOUR] == 0
    return np.where(new_day, 0.0, engine.day_peak_kw).astype(np.float64)


@dataclass(frozen=True)
class EngineState:
    """All that the future of environments depends on, besides actions, year and row; (environments, ...).

    Attributes:
        vehicle: number of the vehicle in each socket.
        soc: states of charge at the sockets.
        vehicle_kwh: present capacity of the vehicles' batteries.
        bess_soc: of the BESS; of no columns without one, like the two that follow.
        bess_kwh: its present capacity.
        bess_before_kwh: what it held at the end of the last hour.
        day_peak_kw: highest import of the day so far.
        previous_net_kwh: net consumption of the last hour.
    """

    vehicle: NDArray[np.intp]
    soc: NDArray[np.float32]
    vehicle_kwh: NDArray[np.floating[Any]]
    bess_soc: NDArray[np.floating[Any]]
    bess_kwh: NDArray[np.floating[Any]]
    bess_before_kwh: NDArray[np.floating[Any]]
    day_peak_kw: NDArray[np.floating[Any]]
    previous_net_kwh: NDArray[np.float32]

    def of(self, environments: Index) -> EngineState:
        """The states of some environments."""
        return EngineState(**{f.name: getattr(self, f.name)[environments].copy() for f in fields(self)})

    def put(self, environments: Index, state: EngineState) -> None:
        """Overwrite the states of some environments."""
        for f in fields(self):
            getattr(self, f.name)[environments] = getattr(state, f.name)

    def differs(self, other: EngineState) -> NDArray[np.bool_]:
        """Which environments are not in the same state, bit for bit; shape (environments,)."""
        different = np.zeros(len(self.soc), bool)
        for f in fields(self):
            pairs = getattr(self, f.name) != getattr(other, f.name)
            different |= pairs.reshape(len(pairs), -1).any(axis=1)
        return different


def engine_state(engine: BatchEngine) -> EngineState:
    """The state of all environments, copied."""
    count = engine.environments
    bess = engine.bess
    nothing = np.zeros((count, 0), np.float32)
    return EngineState(
        vehicle=engine.vehicles.battery.copy(),
        soc=engine.vehicles.soc.copy(),
        vehicle_kwh=engine.vehicles.present_capacity_kwh.copy(),
        bess_soc=nothing if bess is None else bess.soc.copy(),
        bess_kwh=nothing if bess is None else bess.present_capacity_kwh.copy(),
        bess_before_kwh=nothing if bess is None else engine.bess_before_kwh.copy(),
        day_peak_kw=_day_peak_kw(engine),
        previous_net_kwh=engine.previous_net_kwh.copy(),
    )


def restore_state(engine: BatchEngine, state: EngineState) -> None:
    """Put all environments into a state, after a reset to the hours that it is of."""
    slots = np.indices(state.vehicle.shape)
    engine.vehicles.put(tuple(slots), state.vehicle)
    engine.vehicles.soc[:] = state.soc
    engine.vehicles.present_capacity_kwh[:] = state.vehicle_kwh
    if engine.bess is not None:
        # Not in place: a reset may have left an array of another precision.
        engine.bess.soc = state.bess_soc.copy()
        engine.bess.present_capacity_kwh[:] = state.bess_kwh
        engine.bess_before_kwh[:] = state.bess_before_kwh
    engine.day_peak_kw = state.day_peak_kw.copy()
    engine.previous_net_kwh = state.previous_net_kwh.copy()
    engine.features.set_capacities(engine.vehicles.capacity_kwh)
    engine.look_up()
