"""Rules: what charging sites do today, and what a trained controller has to beat."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from iquitos_rl.control.bess_rules import BESS_RULES, absorbable_kw
from iquitos_rl.control.controller import Kind
from iquitos_rl.control.socket_rules import SOCKET_RULES, drawn_kw
from iquitos_rl.env.situation import Episode, Plant, Situation

__all__ = ["SHORT_NAMES", "Rule", "as_action", "parse_rule"]

Float = NDArray[np.floating[Any]]

SHORT_NAMES = {
    "no_control": "no_control+idle",
    "plug_and_charge": "plug_and_charge+self_consumption",
    "laxity_first": "laxity_first+self_consumption",
}


def as_action(sockets_kw: Float, bess_kw: Float, plant: Plant) -> NDArray[np.float64]:
    """The action for powers in kW: shares of rated and of nominal power, shape (sites, actions)."""
    sockets = sockets_kw / plant.rated_kw
    if plant.bess is None:
        return sockets
    return np.concatenate([(bess_kw / plant.bess.nominal_kw)[:, None], sockets], axis=1)


class Rule:
    """A rule for the sockets and one for the BESS.

    The BESS sees the net consumption that the sockets' requests will lead to, so that it neither exports
    what it gives nor stores what it imports.

    Args:
        name: what tables call it.
        sockets: a name of `SOCKET_RULES`.
        bess: a name of `BESS_RULES`.
    """

    observation = None
    memoryless = True
    kind: Kind = "rule"

    def __init__(self, name: str, sockets: str, bess: str) -> None:
        self.name = name
        self.settings = {"sockets": sockets, "bess": bess}
        self._sockets = SOCKET_RULES[sockets]
        self._bess = BESS_RULES[bess]
        self._stores_surplus = bess != "idle"
        # No control is what happens where nothing knows which sockets are occupied.
        self.mask_idle = sockets != "no_control"

    def prepare(self, episode: Episode) -> None:
        """Take the plant."""
        self._plant = episode.plant

    def act(self, situation: Situation) -> NDArray[np.float64]:
        """The actions, shape (sites, actions)."""
        plant = self._plant
        absorbed: Float = np.zeros(situation.count)
        if self._stores_surplus:
            absorbed = absorbable_kw(situation, plant)
        request = self._sockets(situation, plant, absorbed)
        drawn = drawn_kw(request, situation, plant, mask_idle=self.mask_idle).sum(axis=1)
        net = situation.site.load_kwh + drawn - situation.site.pv_kwh[:, 0]
        return as_action(request, self._bess(situation, plant, net), plant)


def parse_rule(name: str) -> Rule | None:
    """The rule of a name such as ``laxity_first+idle``, or of a short one; None if it is none."""
    sockets, plus, bess = SHORT_NAMES.get(name, name).partition("+")
    if not plus or sockets not in SOCKET_RULES or bess not in BESS_RULES:
        return None
    return Rule(name, sockets, bess)
