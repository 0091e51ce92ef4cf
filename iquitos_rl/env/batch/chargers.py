"""The sockets: from actions to power, behind the limits they share, and from batteries back to the grid.

Equals ``citylearn.electric_vehicle_charger.Charger`` and the legacy charging constraints of
``citylearn.internal.building_ops``; see docs/engine.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iquitos_rl.env.batch.battery import SMALLEST, CurveTable
from iquitos_rl.env.batch.schema import ChargerParameters, Curve, PhaseLimit

__all__ = ["ChargerBank"]

Float = NDArray[np.floating[Any]]
Float32 = NDArray[np.float32]


class ChargerBank:
    """All sockets of many environments.

    Args:
        chargers: the sockets.
        limit_kw: of all sockets together; None without one.
        phases: limits of groups of sockets.
        environments: number of environments.

    Attributes:
        rated_kw: largest charging power of each socket, shape (sockets,).
        may_discharge: which sockets can give power back, shape (sockets,).
        granted_kw: charging power after the limits, empty sockets included, shape (environments, sockets).
        violation_kw: by how much requests exceeded the limits, shape (environments,); only with ``report``.
        report: whether `violation_kw` is wanted.
        dtype: of the power: single precision, but double where a least power makes rounding decide.
    """

    def __init__(
        self,
        chargers: Sequence[ChargerParameters],
        limit_kw: float | None,
        phases: Sequence[PhaseLimit],
        environments: int,
    ) -> None:
        self.rated_kw = np.array([max(c.max_charging_kw, 0.0) for c in chargers], float)
        self._discharge_kw = np.array([max(c.max_discharging_kw, 0.0) for c in chargers], float)
        self._least_kw = np.minimum([max(c.min_charging_kw, 0.0) for c in chargers], self.rated_kw)
        self._least_discharge_kw = np.minimum(
            [max(c.min_discharging_kw, 0.0) for c in chargers], self._discharge_kw
        )
        self.may_discharge = self._discharge_kw > 0
        self._has_least = bool(np.any(self._least_kw > 0))
        self.dtype: type = np.float64 if self._has_least else np.float32
        self._rated = self.rated_kw.astype(self.dtype)
        self._discharges = bool(self.may_discharge.any())
        self._efficiency: Float = np.array([c.efficiency for c in chargers], self.dtype)
        self._curves = tuple(
            _curves([c.charge_curve if way == "charge" else c.discharge_curve for c in chargers], chargers)
            for way in ("charge", "discharge")
        )
        self._limit_kw = limit_kw
        names = [c.name for c in chargers]
        self._phases = [
            (phase.limit_kw, np.array([names.index(n) for n in phase.sockets if n in names], np.intp))
            for phase in phases
            if phase.limit_kw is not None
        ]
        shape = (environments, len(chargers))
        self.granted_kw: Float = np.zeros(shape, self.dtype)
        self.violation_kw = np.zeros(environments)
        self.report = False
        self._efficiency_now: Float = self._efficiency
        self._offered: Float = np.zeros(shape, self.dtype)
        self._drawn: Float32 = np.zeros(shape, np.float32)

    def charging_efficiency(self) -> Float:
        """Efficiency of each socket at its largest charging power, shape (sockets,)."""
        curves = self._curves[0]
        if curves is None:
            return self._efficiency
        return curves(np.ones(len(self._efficiency)), curves.of_battery)

    def offer(self, action: Float) -> Float:
        """Energy (kWh) that the sockets offer their vehicles in this hour; below 0 to take it from them.

        Args:
            action: requests, within [-1, 1], shape (environments, sockets); empty sockets count as well.
        """
        power = self._grant(action)
        charge, discharge = self._curves
        efficiency = self._efficiency if charge is None else charge(*_shares(power, self.rated_kw, charge))
        self._efficiency_now = efficiency if charge is None else np.maximum(efficiency, SMALLEST)
        if not self._discharges:
            return np.multiply(power, efficiency, out=self._offered, casting="same_kind")
        back_kw = np.where(action < 0, -action * self._discharge_kw, 0.0)
        back_kw[back_kw < self._least_discharge_kw] = 0.0
        np.minimum(back_kw, self._discharge_kw, out=back_kw)
        giving = back_kw > 0
        out = self._efficiency
        if discharge is not None:
            out = discharge(*_shares(back_kw, self._discharge_kw, discharge))
        self._efficiency_now = np.where(giving, out, efficiency)
        return np.where(giving, -back_kw / np.maximum(out, SMALLEST), power * efficiency)

    def _grant(self, action: Float) -> Float:
        """Charging power (kW) of each socket, after the limits."""
        power = np.multiply(action, self._rated, out=self.granted_kw, casting="same_kind")
        if self._discharges:
            np.maximum(power, 0.0, out=power)
        if self._has_least:
            power[power < self._least_kw] = 0.0
        if self.report:
            self.violation_kw[:] = 0.0
        if self._limit_kw is not None:
            total = np.add.reduce(power, axis=1)
            limit_kw = self._limit_kw
            share = limit_kw / np.maximum(total, limit_kw) if limit_kw > 0 else np.zeros_like(total)
            if self.report:
                self.violation_kw += np.maximum(total - self._limit_kw, 0.0)
            np.multiply(power, share[:, None], out=power, casting="same_kind")
        for limit, sockets in self._phases:
            # Not power[:, sockets], which is in another order in memory, and so summed in another.
            total = power.take(sockets, axis=1).sum(axis=1)
            over = total > limit
            if over.any():
                share = np.where(over, limit / np.where(over, total, 1.0), 1.0)
                power[:, sockets] *= share[:, None]
                if self.report:
                    self.violation_kw += np.where(over, total - limit, 0.0)
        if self._has_least:
            # Back to an action and again to power, as CityLearn does: the rounding decides at the threshold.
            limited = np.minimum(action, power / np.maximum(self.rated_kw, SMALLEST)) * self.rated_kw
            served = np.where(limited < self._least_kw, 0.0, limited)
            return np.maximum(served, 0.0)
        return power

    def drawn_kwh(self, balance_kwh: Float32) -> Float32:
        """Energy (kWh) that the sockets draw from the site for what their batteries took; below 0 if given.

        Args:
            balance_kwh: of the batteries in this hour, shape (environments, sockets).
        """
        efficiency = self._efficiency_now
        if not self._discharges:
            return np.divide(balance_kwh, efficiency, out=self._drawn, casting="same_kind")
        taken = balance_kwh / np.maximum(efficiency, SMALLEST)
        return np.where(balance_kwh >= 0, taken, balance_kwh * efficiency).astype(np.float32)


def _curves(curves: Sequence[Curve | None], chargers: Sequence[ChargerParameters]) -> CurveTable | None:
    """A table of efficiency curves, None if no socket has one; sockets without one have a constant."""
    if all(curve is None for curve in curves):
        return None
    return CurveTable(
        [
            ((0.0, charger.efficiency), (1.0, charger.efficiency)) if curve is None else curve
            for curve, charger in zip(curves, chargers, strict=True)
        ],
        clamped=True,
    )


def _shares(power_kw: Float, largest_kw: Float, curves: CurveTable) -> tuple[Float, NDArray[np.intp]]:
    share = power_kw / np.maximum(largest_kw, SMALLEST)
    return share, np.broadcast_to(curves.of_battery, share.shape)
