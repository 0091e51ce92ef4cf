"""Model-predictive control: the optimum of what is there and what is expected, solved anew every hour.

What a user would deploy instead of a trained policy. The programme is that of the oracle; only the window
differs: vehicles that are there are as they are, later hours are as `Forecaster` expects them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from iquitos_rl.config.reward import RewardWeights
from iquitos_rl.control.optimum.forecast import HORIZON_HOURS, Forecaster, cut_at
from iquitos_rl.control.optimum.goal import score_goal
from iquitos_rl.control.optimum.programme import Programme
from iquitos_rl.control.optimum.window import Sessions, SiteWindow, window_of
from iquitos_rl.env.batch.years import SiteYears
from iquitos_rl.env.observation import SocketState
from iquitos_rl.env.situation import Situation
from iquitos_rl.kpis import HOURS_PER_DAY
from iquitos_rl.objectives import NoControlReference

__all__ = ["PredictivePlanner"]

FloatArray = NDArray[np.float64]

DISCOUNT_PER_HOUR = 1e-5
"""Only breaks ties, but those matter: without it a sunny forecast puts off charging, and clouds come."""
EXPECTED_BATTERY = 1.1
"""Expected vehicles are taken for so much larger, so that a kWh for them earns less service.

They have the mean battery of their kind; a vehicle that is there with a larger one, which earns less per kWh,
would wait for them, and leave short when they do not come. Batteries of a kind differ by a tenth. Chosen on
two stretches of the validation year, where 1.1 and 1.3 are alike, and 1 is worse by 0.003 of the score.
"""


class PredictivePlanner:
    """Plans to the end of the next day, 25 to 48 hours ahead, and gives what to do now.

    Args:
        years: of the site, gone by: what is expected of later hours is learned from them, and the site's
            limits are theirs.
        reference: no control over the same years, or their mean: what the score divides by.
        weights: of the objectives.

    Raises:
        ValueError: a site that is not linear (`window_of`).
    """

    def __init__(self, years: SiteYears, reference: NoControlReference, weights: RewardWeights) -> None:
        self._site = window_of(years, 0, 0, 1)
        self._forecaster = Forecaster.fit(years)
        self._reference = reference
        self._weights = weights

    def plan(self, situation: Situation, pv_seen_kwh: FloatArray) -> tuple[float, FloatArray]:
        """What to do in the present hour.

        Args:
            situation: of one site.
            pv_seen_kwh: PV of the last hours, the present one last; 24 of them are of use.

        Returns:
            Power of the BESS (kW, + charges; 0 without one), and draw of each socket (kW), shape (sockets,).

        Raises:
            NoSolutionError: the solver stopped without an optimum.
        """
        window = self.window(situation, pv_seen_kwh)
        goal = score_goal(window, self._reference, self._weights)
        if window.bess is not None:
            # What is left at the end saves import later, at the lowest price: the sun comes before the peak.
            surplus = float(np.mean(goal.surplus_price))
            saved = float(goal.import_price.min()) + surplus
            goal = replace(goal, stored_value=window.bess.root * saved - surplus)
        schedule = Programme(window, goal.sooner(DISCOUNT_PER_HOUR)).solve()
        sockets_kw = np.zeros(len(window.rated_kw))
        now = (schedule.hour == 0) & (window.sessions.socket[schedule.session] >= 0)
        sockets_kw[window.sessions.socket[schedule.session[now]]] = schedule.draw_kw[now]
        return float(schedule.bess_kw[0]), sockets_kw

    def window(self, situation: Situation, pv_seen_kwh: FloatArray) -> SiteWindow:
        """The hours ahead: this one as it is, the others as they are expected."""
        site, expected, now = self._site, self._forecaster, situation.site
        hour = int(now.hour[0])
        hour_of_week = int(now.day_type[0]) * HOURS_PER_DAY + hour
        hours = HORIZON_HOURS - hour
        ahead = expected.week_hours(hour_of_week, hours)
        load = expected.load_kwh[ahead]
        price = expected.price_usd_per_kwh[ahead]
        carbon = expected.carbon_kg_per_kwh[ahead]
        load[0], price[0] = now.load_kwh[0], now.price_usd_per_kwh[0, 0]
        carbon[0] = now.carbon_intensity_kg_per_kwh[0]
        later = expected.expected_sessions(hour_of_week, hours)
        later.required_kwh[:] *= EXPECTED_BATTERY
        bess = site.bess
        if bess is not None:
            held_kwh = float(now.bess_soc[0]) * bess.capacity_kwh
            bess = replace(bess, start_kwh=float(np.clip(held_kwh, bess.floor_kwh, bess.capacity_kwh)))
        return replace(
            site,
            load_kwh=load,
            pv_kwh=expected.pv_kwh(int(now.hour_of_year[0]), hours, pv_seen_kwh),
            price_usd_per_kwh=price,
            carbon_kg_per_kwh=carbon,
            day=(hour + np.arange(hours)) // HOURS_PER_DAY,
            day_peak_kw=float(now.day_peak_kw[0]),
            bess=bess,
            sessions=Sessions.join([cut_at(self._present(situation.sockets), hours), later]),
        )

    def _present(self, sockets: SocketState) -> Sessions:
        """The vehicles that are there."""
        (socket,) = np.nonzero(sockets.occupied[0])
        capacity = sockets.capacity_kwh[0, socket].astype(float)
        soc = sockets.soc[0, socket].astype(float)
        required_kwh = sockets.required_soc[0, socket].astype(float) * capacity
        profile = self._forecaster.sockets
        return Sessions(
            socket=socket.astype(np.intp),
            first=np.zeros(len(socket), np.intp),
            # Who does not say when it leaves is served as if it left next.
            last=np.maximum(sockets.hours_to_departure[0, socket], 1.0).astype(np.intp) - 1,
            power_kw=profile.power_kw[socket],
            efficiency=profile.efficiency[socket],
            need_kwh=np.maximum(required_kwh - soc * capacity, 0.0),
            room_kwh=np.maximum((1.0 - soc) * capacity, 0.0),
            required_kwh=required_kwh,
            departures=np.ones(len(socket)),
        )
