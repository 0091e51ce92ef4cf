"""Many CityLearn batteries charged together.

The equations are those of ``citylearn.energy_model.Battery.charge`` and ``StorageDevice._charge``: power
limited by the state of charge, efficiency by the power, both limits applied twice, square roots of the
round-trip efficiency each way, capacity lost with use. See docs/engine.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iquitos_rl.env.batch.schema import BatteryParameters, Curve

__all__ = ["SMALLEST", "BatteryBank", "CurveTable"]

Float = NDArray[np.floating[Any]]
Float32 = NDArray[np.float32]
Index = NDArray[np.intp]
Slots = tuple[Index, ...] | Index

SMALLEST = 1e-6
"""CityLearn divides by nothing smaller than this."""


class CurveTable:
    """Piecewise linear curves, one for each battery (or socket), evaluated for many at once.

    Like CityLearn's batteries, a curve is continued in a straight line beyond its ends; ``clamped`` keeps the
    value at its ends instead, as CityLearn's chargers do.

    Args:
        curves: one for each battery.
        clamped: whether a curve is constant beyond its ends.

    Attributes:
        of_battery: number of each battery's curve.
        flat: value of each battery's curve, if all of them are constant; else None.
    """

    def __init__(self, curves: Sequence[Curve], *, clamped: bool = False) -> None:
        distinct = list(dict.fromkeys(curves))
        number = {curve: i for i, curve in enumerate(distinct)}
        self.of_battery = np.array([number[curve] for curve in curves], np.intp)
        self.flat: NDArray[np.float64] | None = None
        if all(y == curve[0][1] for curve in distinct for _, y in curve):
            self.flat = np.array([curve[0][1] for curve in curves], float)
        points = max(len(curve) for curve in distinct)
        # Padded with infinity, so that counting the points below a value finds its segment in each curve.
        self._x = np.full((len(distinct), points), np.inf)
        self._y = np.zeros((len(distinct), points))
        for i, curve in enumerate(distinct):
            self._x[i, : len(curve)], self._y[i, : len(curve)] = np.transpose(curve)
        self._last = np.array([len(curve) - 2 for curve in distinct], np.intp)
        self._clamped = clamped

    def __call__(self, value: Float, curve: Index) -> NDArray[np.float64]:
        """Values of the curves numbered ``curve`` (as in `of_battery`) at ``value``; both of one shape."""
        below = (self._x[curve] < value[..., None]).sum(axis=-1)
        segment = np.clip(below - 1, 0, self._last[curve])
        x0, x1 = self._x[curve, segment], self._x[curve, segment + 1]
        y0, y1 = self._y[curve, segment], self._y[curve, segment + 1]
        if self._clamped:
            value = np.clip(value, x0, x1)
        return np.asarray(y0 + (y1 - y0) * (value - x0) / (x1 - x0))


class BatteryBank:
    """Batteries in slots of any shape: (environments,) for the BESS, (environments, sockets) for vehicles.

    Where curves are constant and capacities last, limits and efficiencies do not change, and a few operations
    do what CityLearn does in two passes; else the passes are computed as they are.

    Args:
        batteries: all that can be in a slot.
        shape: of the slots.
        dtype: of what is computed within an hour by those few operations; states are kept in single
            precision, as CityLearn does.
        exact: repeat CityLearn operation by operation, its rounding included, in any case.

    Attributes:
        soc: state of charge of each slot; 0 in an empty one.
        battery: number of the battery in each slot.
        capacity_kwh: of the battery in each slot, when new.
        nominal_kw: its nominal power.
        present_capacity_kwh: what is left of it after wear.
        has_floor: whether any battery must not be emptied; then an empty slot's state is not 0 after an hour.
        is_lossless: whether all batteries give back all that they take.
        root: one-way efficiency of the last hour in each slot (CityLearn's `round_trip_efficiency`).
    """

    def __init__(
        self,
        batteries: Sequence[BatteryParameters],
        shape: tuple[int, ...],
        *,
        dtype: type = np.float64,
        exact: bool = False,
    ) -> None:
        self._capacity = np.array([b.capacity_kwh for b in batteries], float)
        self._nominal = np.array([b.nominal_power_kw for b in batteries], float)
        self._floor = np.array([b.floor_soc for b in batteries], float)
        self._loss = np.array([b.loss_per_hour for b in batteries], float)
        self._wear = np.array([b.capacity_loss for b in batteries], float)
        self._power_curves = CurveTable([b.power_curve for b in batteries])
        self._efficiency_curves = CurveTable([b.efficiency_curve for b in batteries])
        self.has_floor = bool(np.any(self._floor > 0))
        self._has_loss = bool(np.any(self._loss > 0))
        self._wears = bool(np.any(self._wear > 0))
        flat_power, flat_efficiency = self._power_curves.flat, self._efficiency_curves.flat
        self._is_lean = (
            flat_power is not None
            and flat_efficiency is not None
            and not self._wears
            and not exact
            and bool(np.all(self._capacity > SMALLEST))
        )
        self.is_lossless = flat_efficiency is not None and bool(np.all(flat_efficiency == 1.0))
        dtype = dtype if self._is_lean else np.float64

        def ones() -> Float:
            return np.ones(shape, dtype)

        def ones32() -> Float32:
            return np.ones(shape, np.float32)

        self.soc = np.zeros(shape, np.float32)
        self.battery = np.zeros(shape, np.intp)
        # What is in each slot; `put` fills them in.
        self.capacity_kwh, self.nominal_kw, self.root = ones(), ones(), ones()
        self._inverse_capacity, self._inverse_root, self._divisor = ones(), ones(), ones()
        self._floor_kwh, self.present_capacity_kwh = ones(), ones()
        self._capacity32, self._floor32, self._root32, self._degraded32 = (ones32() for _ in range(4))
        self._limit_kwh = ones()  # of an hour, where it does not depend on the state of charge
        self._full = ones32()  # NumPy compares arrays several times faster than an array and a number
        # Reused in every hour.
        self._start, self._moved, self._room, self._balance = ones(), ones(), ones(), ones32()

    def put(self, slots: Slots, battery: Index) -> None:
        """Put new batteries into slots (as indices of arrays of the slots' shape), by number; SOC is kept."""
        capacity = self._capacity[battery]
        self.battery[slots] = battery
        self.capacity_kwh[slots] = capacity
        self.nominal_kw[slots] = self._nominal[battery]
        self._inverse_capacity[slots] = 1.0 / np.maximum(capacity, SMALLEST)
        self._divisor[slots] = np.maximum(capacity, SMALLEST)
        self._floor_kwh[slots] = self._floor[battery] * capacity
        self._capacity32[slots], self._floor32[slots] = capacity, self._floor[battery] * capacity
        self.present_capacity_kwh[slots] = self._degraded32[slots] = capacity
        flat_power, flat_efficiency = self._power_curves.flat, self._efficiency_curves.flat
        if flat_power is not None:
            self._limit_kwh[slots] = np.maximum(self._nominal[battery] * flat_power[battery], 0.0)
        if flat_efficiency is not None:
            self.root[slots] = self._root32[slots] = flat_efficiency[battery] ** 0.5
            self._inverse_root[slots] = flat_efficiency[battery] ** -0.5

    def charge(self, energy_kwh: Float) -> Float32:
        """Charge batteries as far as they allow, none of them with less than 0 kWh.

        Args:
            energy_kwh: what they are offered in this hour.

        Returns:
            What they took (kWh), before their own losses: CityLearn's ``energy_balance``. Overwritten by the
            next call.
        """
        if not self._is_lean or self.has_floor:
            return self.exchange(energy_kwh)
        start, moved, room = self._start, self._moved, self._room
        np.multiply(self.soc, self.capacity_kwh, out=start)
        np.subtract(self.capacity_kwh, start, out=room)
        if not self.is_lossless:
            np.multiply(room, self._inverse_root, out=room)
        np.minimum(energy_kwh, self._limit_kwh, out=moved)
        np.minimum(moved, room, out=moved)
        np.copyto(self._balance, moved, casting="same_kind")
        if not self.is_lossless:
            np.multiply(moved, self.root, out=moved)
        np.add(start, moved, out=start)
        self._keep(start)
        return self._balance

    def exchange(self, energy_kwh: Float) -> Float32:
        """Charge (positive) or discharge (negative) batteries as far as they allow; as `charge`."""
        if not self._is_lean:
            return self._exchange_exactly(energy_kwh)
        start, moved, room = self._start, self._moved, self._room
        np.multiply(self.soc, self.capacity_kwh, out=start)
        np.maximum(start, self._floor_kwh, out=start)
        # What goes in: as much as power and room allow.
        np.subtract(self.capacity_kwh, start, out=room)
        np.multiply(room, self._inverse_root, out=room)
        np.minimum(room, self._limit_kwh, out=room)
        np.minimum(energy_kwh, room, out=moved)
        # What comes out, below 0: as much as power and what is held above the floor allow.
        np.subtract(self._floor_kwh, start, out=room)
        np.multiply(room, self.root, out=room)
        np.maximum(room, -self._limit_kwh, out=room)
        np.maximum(moved, room, out=moved)
        np.copyto(self._balance, moved, casting="same_kind")
        np.add(start, self._held(moved), out=start)
        self._keep(start)
        return self._balance

    def _keep(self, energy_kwh: Float) -> None:
        """Take this as what is stored; rounding must not fill a battery beyond its capacity."""
        np.multiply(energy_kwh, self._inverse_capacity, out=self.soc, casting="same_kind")
        np.minimum(self.soc, self._full, out=self.soc)

    def _exchange_exactly(self, energy_kwh: Float) -> Float32:
        """CityLearn's two passes, and its rounding.

        CityLearn multiplies a state of charge in single precision by plain numbers, so the energy that a
        battery begins an hour with, and the room in it, are in single precision too, unless it is at its
        floor, which is a plain number; the rest is in double precision. For a battery of some MWh that
        rounding is not small, and what differs in one hour stays different for the year.
        """
        capacity, floor_kwh = self.capacity_kwh, self._floor_kwh
        rounded = self.soc * self._capacity32
        at_floor = rounded <= self._floor32
        start = np.where(at_floor, floor_kwh, rounded)
        # A plain number and one of single precision: NumPy 2 rounds the plain number first.
        degraded = self._degraded32 if not self._wears else self.present_capacity_kwh.astype(np.float32)
        space = degraded - rounded
        above = rounded - self._floor32
        charging = energy_kwh >= 0
        wanted = np.minimum(np.abs(energy_kwh), self._power_limit(start, at_floor))
        moved = wanted
        # The efficiency follows the power, the room the efficiency; with one efficiency one pass is two.
        flat = self._efficiency_curves.flat is not None
        for _ in range(1 if flat else 2):
            if flat:
                root = self._root32
            else:
                self._update_efficiency(moved)
                root = self.root.astype(np.float32)
            at_most = np.where(charging, space / root, above * root)
            empty = np.where(charging, (self.present_capacity_kwh - floor_kwh) / self.root, 0.0)
            moved = np.minimum(wanted, np.maximum(np.where(at_floor, empty, at_most), 0.0))
        reached = start + np.where(charging, moved * self.root, -moved / self.root)
        end = np.minimum(np.maximum(reached, floor_kwh), capacity)
        np.divide(end, self._divisor, out=self.soc, casting="same_kind")
        delta = end - start
        balance = np.where(delta >= 0, delta / self.root, delta * self.root)
        # A limit that is hit is a plain number again, so that the difference is of single precision.
        hit = np.where(charging, reached > capacity, reached <= floor_kwh) & ~at_floor
        if hit.any():
            single = end.astype(np.float32) - rounded
            np.copyto(balance, np.where(single >= 0, single / root, single * root), where=hit)
        np.copyto(self._balance, balance, casting="same_kind")
        if self._wears:
            worn = (self._wear[self.battery] * capacity).astype(np.float32) * np.abs(self._balance)
            worn /= (2 * np.maximum(self.present_capacity_kwh, SMALLEST)).astype(np.float32)
            np.maximum(
                self.present_capacity_kwh.astype(np.float32) - worn, 0.0, out=self.present_capacity_kwh
            )
        else:  # CityLearn subtracts a wear of nothing, of single precision
            np.copyto(self.present_capacity_kwh, self._degraded32)
        return self._balance

    def _power_limit(self, start_kwh: Float, at_floor: NDArray[np.bool_]) -> Float:
        """Most energy (kWh) in or out in this hour, by the state of charge."""
        if self._power_curves.flat is not None:
            return self._limit_kwh
        single = start_kwh.astype(np.float32) / self._divisor.astype(np.float32)
        soc = np.where(at_floor, start_kwh / self._divisor, single)
        share = self._power_curves(soc, self._power_curves.of_battery[self.battery])
        return np.maximum(self.nominal_kw * share, 0.0)

    def _update_efficiency(self, energy_kwh: Float) -> None:
        """One-way efficiencies of an hour in which this much is moved."""
        share = np.clip(energy_kwh / np.maximum(self.nominal_kw, SMALLEST), 0.0, 1.0)
        np.sqrt(
            self._efficiency_curves(share, self._efficiency_curves.of_battery[self.battery]), out=self.root
        )

    def _held(self, balance_kwh: Float) -> Float:
        if self.is_lossless:
            return balance_kwh
        inwards = np.maximum(balance_kwh, 0.0)
        return inwards * self.root + (balance_kwh - inwards) / self.root

    def held_kwh(self, balance_kwh: Float32) -> NDArray[np.float64]:
        """What batteries hold more (or less) after having taken (or given) a balance; same shape."""
        return self._held(balance_kwh.astype(float)).astype(float)

    def stand_by(self) -> Float32:
        """States of charge after the standby losses from this hour to the next."""
        if not self._has_loss:
            return self.soc
        kept = self.soc * (1.0 - self._loss[self.battery]).astype(np.float32)
        np.clip(kept, self._floor[self.battery].astype(np.float32), np.float32(1), out=kept)
        return np.where(self.soc > 0, kept, np.float32(0))
