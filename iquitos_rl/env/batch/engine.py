"""Many environments of one charging site, stepped in lockstep with CityLearn's numbers.

The engine knows hours, not episodes: `reset` puts environments to hours of years, `step` simulates an hour
of all of them. Windows, seeds and Gymnasium's interface are in `vector_env`. docs/engine.md has the equations
and the order of operations within a step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from iquitos_rl.config.reward import RewardWeights
from iquitos_rl.env.batch.battery import BatteryBank
from iquitos_rl.env.batch.chargers import ChargerBank
from iquitos_rl.env.batch.features import FeatureWriter
from iquitos_rl.env.batch.hour import Hour
from iquitos_rl.env.batch.raw import RawWriter
from iquitos_rl.env.batch.schema import BatteryParameters
from iquitos_rl.env.batch.years import HOUR_COLUMNS, SiteYears
from iquitos_rl.env.observation import FULL_SOC
from iquitos_rl.objectives import (
    FlowIncrements,
    NoControlReference,
    objective_increments,
    reward_factors,
    satisfaction,
    unserved_energy_kwh,
)

__all__ = ["BatchEngine"]

Float = NDArray[np.floating[Any]]
Float32 = NDArray[np.float32]
Index = NDArray[np.intp]

FULL = np.float32(FULL_SOC)
if float(FULL) < FULL_SOC:  # compared in double precision, as the reference does
    FULL = np.nextafter(FULL, np.float32(1))
"""The lowest SOC in single precision that counts as full."""
HOUR = HOUR_COLUMNS.index("hour")
LONG_STAY_HOURS = 12
"""Where vehicles stay longer than this, rounding adds up, and CityLearn's is repeated."""
NO_VEHICLE = BatteryParameters(
    1.0, 1.0, ((0.0, 1.0), (1.0, 1.0)), ((0.0, 1.0), (1.0, 1.0)), 0.0, 0.0, 0.0, 0.0
)


class BatchEngine:
    """The district of many environments.

    Args:
        years: of the site; all must have been built alike but for data and vehicles.
        environments: how many.
        raw: `observe` gives CityLearn's own observation instead of features; the years need `YearTables.raw`.
        mask_idle: drop the requests of sockets without a vehicle that has room, before the feeder is shared.
        weights: of the objectives.
        reference: no-control values to divide by.

    Attributes:
        hour: what happened in the hour just simulated; None before.
        year, row, start_row: of each environment: number of its year, its present hour of it, and the hour
            that its episode began in.
        occupied: sockets with a vehicle in the present hour, shape (environments, sockets), like those that
            follow; overwritten by the next step.
        ready: sockets with a vehicle that has room.
        hours_left, required_soc: of the sockets; 0 without a vehicle.
        day_peak_kw: highest import of the day until the end of the hour just simulated.
        previous_net_kwh: net consumption of the hour before; 0 at the start of an episode.
        bess_before_kwh: what the BESS held at the end of the hour before.
    """

    def __init__(
        self,
        years: SiteYears,
        environments: int,
        *,
        raw: bool = False,
        mask_idle: bool = True,
        weights: RewardWeights,
        reference: NoControlReference,
    ) -> None:
        self.years = years
        self.environments = environments
        self.mask_idle = mask_idle
        self.weights = weights
        self.reference = reference
        self._unserved_kg_per_kwh_of_year = np.array([p.unserved_kg_per_kwh for p in years.parameters])
        self._unserved_kg_per_kwh = np.zeros(environments)
        site = years.parameters[0]
        self.has_bess = site.bess is not None
        self.chargers = ChargerBank(site.chargers, site.limit_kw, site.phases, environments)
        self._discharging = np.flatnonzero(self.chargers.may_discharge)
        self._discharges = len(self._discharging) > 0
        sockets = len(site.chargers)
        shape = (environments, sockets)
        # The vehicles of all years, one after the other; a year's vehicle v is number `_first_vehicle` + v.
        counts = [len(p.vehicles) for p in years.parameters]
        self._first_vehicle = np.cumsum([0, *counts])[:-1]
        vehicles = [v for p in years.parameters for v in p.vehicles.values()]
        self.vehicles = BatteryBank(
            vehicles or [NO_VEHICLE],
            shape,
            dtype=self.chargers.dtype,
            exact=float(years.tables.hours_left.max()) > LONG_STAY_HOURS,
        )
        self._one_each, self._vehicle_of_socket = self._vehicles_of_sockets()
        self.bess = BatteryBank([site.bess], (environments,), exact=True) if site.bess else None
        if self.bess is not None:
            self.bess.put(np.arange(environments), np.zeros(environments, np.intp))
        self.year, self.row, self._table_row, self.start_row, self._last_row = (
            np.zeros(environments, np.intp) for _ in range(5)
        )
        self._rows_of_year = years.rows
        self.hours_left, self.required_soc, self._staying_soc, self._is_ready = (
            np.zeros(shape, np.float32) for _ in range(4)
        )
        self._lossless: Float = np.broadcast_to(np.float32(1), shape)
        self.occupied, self.ready, self._stays, self._leaves = (np.zeros(shape, bool) for _ in range(4))
        self._next_soc: Float32 = np.zeros(shape, np.float32)
        self._request: Float = np.zeros(shape, self.chargers.dtype)
        self._hours = np.zeros((environments, len(HOUR_COLUMNS)), np.float32)
        self.day_peak_kw: Float = np.zeros(environments)
        self.previous_net_kwh: Float32 = np.zeros(environments, np.float32)
        self.bess_before_kwh: Float = np.zeros(environments)
        self._peak_before: Float = np.zeros(environments)
        self._zero = np.zeros(environments)
        self._nothing: Float32 = np.zeros(environments, np.float32)
        self._zero.flags.writeable = self._nothing.flags.writeable = False
        self.hour: Hour | None = None
        self.features = FeatureWriter(years, environments)
        self._raw = RawWriter(years, years.tables.raw, environments) if raw else None
        self.chargers.report = raw

    @property
    def reference(self) -> NoControlReference:
        """No-control values that the reward divides by."""
        return self._reference

    @reference.setter
    def reference(self, reference: NoControlReference) -> None:
        self._reference = reference
        self._reward_factors = reward_factors(reference, self.weights)

    def _vehicles_of_sockets(self) -> tuple[bool, Index]:
        """Whether each socket serves one vehicle in each year, and which: shape (years, sockets)."""
        years = self.years
        first = np.zeros((len(years.parameters), len(years.socket_names)), np.intp)
        one_each = True
        for number, (start, p) in enumerate(zip(years.first_row, years.parameters, strict=True)):
            table = years.tables.vehicle[start : start + p.rows]
            highest = table.max(axis=0)
            lowest = np.where(table >= 0, table, highest).min(axis=0)
            one_each &= bool(np.all(lowest == highest))
            first[number] = np.maximum(highest, 0) + self._first_vehicle[number]
        return one_each, first

    @property
    def raw_names(self) -> list[str]:
        """Names of CityLearn's own observations. Raises ValueError on an engine that does not make them."""
        if self._raw is None:
            raise ValueError("an engine of features: make it with raw=True")
        return self._raw.names

    @property
    def may_discharge(self) -> NDArray[np.bool_]:
        """Which sockets can give power back, shape (sockets,)."""
        return self.chargers.may_discharge

    @property
    def soc(self) -> Float32:
        """State of charge at the sockets at the start of the present hour, 0 without a vehicle."""
        return self.vehicles.soc

    @property
    def bess_soc(self) -> Float32 | None:
        """State of charge of the BESS at the start of the present hour; None without one."""
        return None if self.bess is None else self.bess.soc

    @property
    def bess_stored_kwh(self) -> Float:
        """Energy in the BESS at the start of the present hour; zeros without one."""
        return self._zero if self.bess is None else self.bess.soc * self.bess.capacity_kwh

    @property
    def bess_end_kwh(self) -> Float:
        """Energy in the BESS at the end of the hour just simulated; zeros without one."""
        if self.bess is None or self.hour is None:
            return self._zero
        return self.hour.bess_soc * self.bess.capacity_kwh

    @property
    def at_end(self) -> NDArray[np.bool_]:
        """Environments that have reached the last row of their data: there is nothing more to simulate."""
        return self.row >= self._last_row

    def reset(self, environments: Index, year: Index, row: Index) -> None:
        """Put environments to hours of years.

        Raises:
            ValueError: a year or an hour that the data does not have.
        """
        if np.any((year < 0) | (year >= len(self.years.parameters))):
            raise ValueError(f"year {year}: there are {len(self.years.parameters)}")
        if np.any((row < 0) | (row >= self._rows_of_year[year] - 1)):
            raise ValueError(f"row {row}: the data has {self._rows_of_year[year]} rows")
        self.year[environments] = year
        self.row[environments] = row
        self.start_row[environments] = row
        self._unserved_kg_per_kwh[environments] = self._unserved_kg_per_kwh_of_year[year]
        self._last_row[environments] = self._rows_of_year[year] - 1
        self._table_row[environments] = self.years.first_row[year] + row
        tables = self.years.tables
        at = self._table_row[environments]
        slots = np.ix_(environments, np.arange(len(self.years.socket_names)))
        numbers = self._vehicle_of_socket[year]
        if not self._one_each:
            here = tables.vehicle[at]
            numbers = np.where(here >= 0, here + self._first_vehicle[year][:, None], numbers)
        self.vehicles.put(slots, numbers)
        self.vehicles.soc[environments] = tables.start_soc[at]
        if self.bess is not None:
            # In double precision, as CityLearn hands it to the reward function.
            initial = self.years.parameters[0].bess.initial_soc  # type: ignore[union-attr]
            self.bess.put(environments, np.zeros(len(environments), np.intp))
            self.bess.soc[environments] = initial
            self.bess_before_kwh[environments] = initial * self.bess.capacity_kwh[environments]
        self.day_peak_kw[environments] = 0.0
        self.previous_net_kwh[environments] = 0.0
        self.features.start_year(environments, year)
        self.features.set_capacities(self.vehicles.capacity_kwh)
        self.look_up()

    def look_up(self) -> None:
        """What the tables say of the present hour."""
        tables, rows = self.years.tables, self._table_row
        tables.hours.take(rows, axis=0, out=self._hours, mode="clip")
        tables.occupied.take(rows, axis=0, out=self.occupied, mode="clip")
        tables.hours_left.take(rows, axis=0, out=self.hours_left, mode="clip")
        tables.required_soc.take(rows, axis=0, out=self.required_soc, mode="clip")
        np.less(self.vehicles.soc, FULL, out=self.ready)
        np.logical_and(self.ready, self.occupied, out=self.ready)
        # As numbers too: NumPy multiplies those faster than it chooses by a mask, or multiplies by flags.
        np.copyto(self._is_ready, self.ready)
        self._peak_before = np.where(self._hours[:, HOUR] == 0, 0.0, self.day_peak_kw)

    def observe(self) -> Float32:
        """The observation of the present hour, shape (environments, observations); overwritten."""
        if self._raw is not None:
            return self._raw.write(
                self._table_row,
                self.year,
                self.row - self.start_row,
                self.at_end,
                self.hour,
                self.chargers.granted_kw,
                self.chargers.violation_kw,
            )
        return self.features.write(
            self._table_row,
            self.occupied,
            self.hours_left,
            self.required_soc,
            self.vehicles.soc,
            self._is_ready,
            self.bess_soc,
            self.previous_net_kwh,
            self._peak_before,
        )

    def step(self, action: NDArray[np.floating[Any]]) -> Hour:
        """Simulate the present hour of all environments, and go to the next.

        Args:
            action: within the bounds of the site, shape (environments, actions): the BESS first, if any.
        """
        load, pv, price, carbon, _ = self._hours.T.copy()
        request = self._request
        if self.mask_idle:
            np.multiply(action[:, int(self.has_bess) :], self._is_ready, out=request, casting="same_kind")
        else:
            np.copyto(request, action[:, int(self.has_bess) :], casting="same_kind")
        offered = self.chargers.offer(request)
        if not self.mask_idle:
            np.multiply(offered, self.occupied, out=offered)
        vehicles = self.vehicles
        balance = vehicles.exchange(offered) if self._discharges else vehicles.charge(offered)
        if vehicles.has_floor:
            np.multiply(vehicles.soc, self.occupied, out=vehicles.soc)
        sockets_kwh = self.chargers.drawn_kwh(balance)
        drawn = np.add.reduce(sockets_kwh, axis=1)
        if self.bess is None:
            bess_kwh = bess_soc = self._nothing
        else:
            bess_kwh = self.bess.exchange(
                np.multiply(action[:, 0], self.bess.nominal_kw, dtype=np.float64)
            ).copy()
            bess_soc = self.bess.soc.copy()
        net = load + bess_kwh - pv + drawn
        imported = np.maximum(net, np.float32(0))
        leaving = self._departures()
        losses = self._storage_losses(bess_kwh, bess_soc, sockets_kwh, balance)
        day_peak = np.maximum(self._peak_before, imported)
        increments = objective_increments(
            FlowIncrements(
                grid_import_kwh=imported,
                grid_export_kwh=np.maximum(-net, np.float32(0)),
                storage_loss_kwh=losses,
                unserved_kwh=leaving[0],
                shortfall=leaving[1],
                peak_rise_kw=day_peak - self._peak_before,
                carbon_intensity_kg_per_kwh=carbon,
                price_usd_per_kwh=price,
                unserved_kg_per_kwh=self._unserved_kg_per_kwh,
            )
        )
        components = increments * self._reward_factors
        self.hour = Hour(
            row=self.row.copy(),
            reward=components.sum(axis=1),
            components=components,
            increments=increments,
            net_kwh=net,
            cost_usd=imported * price,
            emission_kg=np.maximum(np.float32(0), net * carbon),
            pv_kwh=pv,
            load_kwh=load,
            price=price,
            carbon_intensity=carbon,
            bess_kwh=bess_kwh,
            bess_soc=bess_soc,
            sockets_kwh=sockets_kwh,
            sockets_balance_kwh=balance,
            sockets_root=self._lossless if vehicles.is_lossless else vehicles.root.copy(),
            sockets_soc=vehicles.soc,
            unserved_kwh=leaving[0],
            shortfall=leaving[1],
            departures=leaving[2],
            storage_loss_kwh=losses,
            day_peak_kw=day_peak,
        )
        # Copies, because a reset writes into them, and an hour may have been given to a caller.
        self.day_peak_kw = day_peak.copy()
        self.previous_net_kwh = net.copy()
        self._advance()
        return self.hour

    def _departures(self) -> tuple[Float, Float, Index]:
        """Unserved energy (kWh), shortfall of satisfaction, and number of the vehicles that leave now."""
        departures = self.years.tables.departures.take(self._table_row, mode="clip").astype(np.intp)
        if not departures.any():
            return self._zero, self._zero, departures
        np.equal(self.hours_left, np.float32(1), out=self._leaves)
        (slots,) = self._leaves.ravel().nonzero()
        soc = self.vehicles.soc.ravel().take(slots)
        required = self.required_soc.ravel().take(slots)
        unserved = unserved_energy_kwh(soc, required, self.vehicles.capacity_kwh.ravel().take(slots))
        shortfall = 1.0 - satisfaction(soc, required)
        # The slots are in the order of environments: sums over stretches, as long as the tables say.
        (environments,) = departures.nonzero()
        counts = departures[environments]
        totals = np.zeros((2, self.environments))
        totals[:, environments] = np.add.reduceat([unserved, shortfall], counts.cumsum() - counts, axis=1)
        return totals[0], totals[1], departures

    def _storage_losses(
        self, bess_kwh: Float32, bess_soc: Float32, sockets_kwh: Float32, balance: Float32
    ) -> Float:
        losses: Float = self._zero
        if self.bess is not None:
            after = bess_soc * self.bess.capacity_kwh
            losses = bess_kwh - (after - self.bess_before_kwh)
            self.bess_before_kwh = after
        if self._discharges:
            lost = (sockets_kwh - self.vehicles.held_kwh(balance)) * self.occupied
            # Not lost[:, ...], which is in another order in memory, and so summed in another, for several.
            losses = losses + lost.take(self._discharging, axis=1).sum(axis=1)
        return losses

    def _advance(self) -> None:
        """Go to the next hour: standby losses, departures and arrivals."""
        vehicles, after = self.vehicles, self.vehicles.soc
        np.add(self.row, 1, out=self.row)
        np.add(self._table_row, 1, out=self._table_row)
        soc = self._next_soc
        self.years.tables.new_soc.take(self._table_row, axis=0, out=soc, mode="clip")
        self.years.tables.stays.take(self._table_row, axis=0, out=self._stays, mode="clip")
        np.multiply(vehicles.stand_by(), self._stays, out=self._staying_soc)
        np.add(soc, self._staying_soc, out=soc)
        (ended,) = (self.row == self._last_row).nonzero()
        if len(ended):
            self._keep_last(ended, soc, after)
        vehicles.soc, self._next_soc = soc, after
        if not self._one_each:
            self._change_vehicles()
        if self.bess is not None:
            bess_soc = self.bess.stand_by().copy()
            bess_soc[ended] = self.bess.soc[ended]
            self.bess.soc = bess_soc
        self.look_up()

    def _keep_last(self, ended: Index, soc: Float32, after: Float32) -> None:
        """CityLearn does not advance on its data's last transition: vehicles are as the hour left them."""
        staying = self.occupied[ended] & self.years.tables.occupied[self._table_row[ended]]
        soc[ended] = np.where(staying, after[ended], soc[ended])

    def _change_vehicles(self) -> None:
        """Put arriving vehicles into the sockets that several vehicles use."""
        here = self.years.tables.vehicle.take(self._table_row, axis=0, mode="clip")
        numbers = here + self._first_vehicle[self.year][:, None]
        # An environment that waits for its reset may be beyond its year's last row.
        within = (self.row <= self._last_row)[:, None]
        slots = np.nonzero((here >= 0) & (numbers != self.vehicles.battery) & within)
        if len(slots[0]):
            self.vehicles.put(slots, numbers[slots])
            self.features.set_capacities(self.vehicles.capacity_kwh)
