"""Windows of a few hours, small enough to be solved by hand."""

import numpy as np

from iquitos_rl.control.optimum.goal import Goal
from iquitos_rl.control.optimum.plan import plan_of
from iquitos_rl.control.optimum.programme import Programme
from iquitos_rl.control.optimum.window import BessLimits, Sessions, SiteWindow

BESS = BessLimits(capacity_kwh=100.0, floor_kwh=0.0, start_kwh=0.0, power_kw=50.0, nominal_kw=50.0, root=0.9)


def vehicle(
    socket=0, first=0, last=0, power_kw=4.0, efficiency=0.8, need=0.0, room=0.0, required=0.0, counts=1
):
    """One session, as keyword arguments of `Sessions`."""
    return {
        "socket": socket,
        "first": first,
        "last": last,
        "power_kw": power_kw,
        "efficiency": efficiency,
        "need_kwh": need,
        "room_kwh": max(room, need),
        "required_kwh": required,
        "departures": counts,
    }


def window(load, pv=0.0, *, vehicles=(), bess=None, limit_kw=np.inf, phases=(), day_peak_kw=0.0, day=None):
    """A site with the given hourly load; everything else is absent unless given."""
    load = np.asarray(load, float)
    names = vehicle().keys()
    whole = {"socket", "first", "last"}
    columns = {n: np.array([v[n] for v in vehicles], np.intp if n in whole else float) for n in names}
    return SiteWindow(
        load_kwh=load,
        pv_kwh=np.broadcast_to(np.asarray(pv, float), load.shape),
        price_usd_per_kwh=np.ones(len(load)),
        carbon_kg_per_kwh=np.ones(len(load)),
        day=np.zeros(len(load), np.intp) if day is None else np.asarray(day),
        day_peak_kw=day_peak_kw,
        bess=bess,
        limit_kw=limit_kw,
        phases=tuple(phases),
        rated_kw=np.full(1 + max([v["socket"] for v in vehicles], default=0), 4.0),
        sessions=Sessions(**columns),
        unserved_kg_per_kwh=2.0,
    )


def solve(site, import_price=1.0, least_satisfaction=None, **prices):
    """The plan of a window under prices of `Goal`."""
    goal = Goal(np.broadcast_to(np.asarray(import_price, float), (site.hours,)), **prices)
    return plan_of(site, Programme(site, goal).solve(least_satisfaction=least_satisfaction))
