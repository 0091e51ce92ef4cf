"""Rules for the sockets: who is charged first, and with what power.

Each takes the present hour of some sites and gives requests in kW, shape (sites, sockets). Where vehicles
are many and the feeder is small, the order decides who leaves charged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iquitos_rl.env.observation import FULL_SOC
from iquitos_rl.env.situation import Plant, Situation

__all__ = [
    "SOCKET_RULES",
    "SocketRule",
    "drawn_kw",
    "laxity_first_kw",
    "needed_kwh",
    "room_kwh",
    "serve_in_order",
    "serve_needs_kw",
    "top_up_kw",
]

Float = NDArray[np.floating[Any]]
SocketRule = Callable[[Situation, Plant, Float], Float]
"""From the situation, the plant and what the BESS can absorb of a surplus (kW, (sites,)) to requests (kW)."""

NEGLIGIBLE_KWH = 1e-6


def needed_kwh(situation: Situation, plant: Plant) -> Float:
    """Energy (kWh at the socket) that each vehicle lacks to its required SOC; shape (sites, sockets)."""
    sockets = situation.sockets
    gap = np.maximum(sockets.required_soc.astype(float) - sockets.soc, 0.0)
    return np.where(sockets.occupied, gap * sockets.capacity_kwh / plant.charger_efficiency, 0.0)


def room_kwh(situation: Situation, plant: Plant) -> Float:
    """Energy (kWh at the socket) that each vehicle can take until it is full; shape (sites, sockets)."""
    sockets = situation.sockets
    gap = np.maximum(1.0 - sockets.soc.astype(float), 0.0)
    return np.where(sockets.occupied, gap * sockets.capacity_kwh / plant.charger_efficiency, 0.0)


def serve_in_order(wanted_kw: Float, order: Float, limit_kw: Float | float) -> Float:
    """Give each socket what it wants, those of lowest order first, until the limit is reached.

    Args:
        wanted_kw: shape (sites, sockets).
        order: of the same shape.
        limit_kw: of each site's sockets together, shape (sites,) or a number.
    """
    ranks = np.argsort(order, axis=1, kind="stable")
    sorted_kw = np.take_along_axis(wanted_kw, ranks, axis=1)
    before = np.cumsum(sorted_kw, axis=1) - sorted_kw
    given = np.clip(np.reshape(limit_kw, (-1, 1)) - before, 0.0, sorted_kw)
    served = np.empty_like(given)
    np.put_along_axis(served, ranks, given, axis=1)
    return served


def serve_needs_kw(situation: Situation, plant: Plant, order: Callable[[Float, Float], Float]) -> Float:
    """What sockets draw (kW) towards the required SOC, those of lowest order first; shape (sites, sockets).

    Args:
        situation: the present hour.
        plant: the site.
        order: from the need (kWh at the socket) and the laxity of each vehicle, the hours that it could wait
            before its need no longer fits into its stay.
    """
    need = needed_kwh(situation, plant)
    laxity = situation.sockets.hours_to_departure - need / plant.rated_kw
    ranked = np.where(need > NEGLIGIBLE_KWH, order(need, laxity), np.inf)
    return serve_in_order(np.minimum(need, plant.rated_kw), ranked, plant.feeder_limit_kw)


def drawn_kw(request_kw: Float, situation: Situation, plant: Plant, *, mask_idle: bool) -> Float:
    """What sockets will draw (kW) for their requests: behind the feeder, and as far as vehicles have room."""
    sockets = situation.sockets
    if mask_idle:
        request_kw = np.where(sockets.occupied & (sockets.soc < FULL_SOC), request_kw, 0.0)
    total = request_kw.sum(axis=1, keepdims=True)
    share = np.minimum(1.0, plant.feeder_limit_kw / np.maximum(total, 1e-9))
    return np.minimum(request_kw * share, room_kwh(situation, plant))


def no_control_kw(situation: Situation, plant: Plant, absorbed_kw: Float) -> Float:
    """Rated power asked of every socket, occupied or not."""
    return np.broadcast_to(plant.rated_kw, situation.sockets.occupied.shape)


def nobody_kw(situation: Situation, plant: Plant, absorbed_kw: Float) -> Float:
    """No vehicle is charged."""
    return np.zeros(situation.sockets.occupied.shape)


def plug_and_charge_kw(situation: Situation, plant: Plant, absorbed_kw: Float) -> Float:
    """Rated power asked wherever a vehicle has room, until it is full; the feeder shares it out alike."""
    sockets = situation.sockets
    return np.where(sockets.occupied & (sockets.soc < FULL_SOC), plant.rated_kw, 0.0)


def laxity_first_kw(situation: Situation, plant: Plant, absorbed_kw: Float) -> Float:
    """Least laxity first, to the required SOC; beyond it only PV that would else be exported in this hour.

    Vehicles with the least time to spare are served with all that their socket gives until the feeder is
    taken.
    """
    served = serve_needs_kw(situation, plant, lambda need_kwh, laxity_h: laxity_h)
    return served + top_up_kw(situation, plant, served, absorbed_kw)


def top_up_kw(situation: Situation, plant: Plant, served_kw: Float, absorbed_kw: Float) -> Float:
    """Surplus PV for vehicles that have what they need, those that leave first before the others.

    Args:
        situation: the present hour.
        plant: the site.
        served_kw: what sockets are to draw already, shape (sites, sockets).
        absorbed_kw: part of the surplus that is wanted elsewhere, shape (sites,).
    """
    total = served_kw.sum(axis=1)
    surplus = situation.site.pv_kwh[:, 0] - situation.site.load_kwh - total - absorbed_kw
    limit = np.clip(np.minimum(surplus, plant.feeder_limit_kw - total), 0.0, None)
    if not limit.any():
        return np.zeros_like(served_kw)
    wanted = np.minimum(plant.rated_kw, room_kwh(situation, plant)) - served_kw
    order = np.where(situation.sockets.occupied, situation.sockets.hours_to_departure, np.inf)
    return serve_in_order(np.maximum(wanted, 0.0), order, limit)


SOCKET_RULES: dict[str, SocketRule] = {
    "no_control": no_control_kw,
    "none": nobody_kw,
    "plug_and_charge": plug_and_charge_kw,
    "laxity_first": laxity_first_kw,
}
"""By the first part of a rule's name."""
