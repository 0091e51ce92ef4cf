"""How a controller looks in every chart: one class and one marker for what it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from iquitos_rl.evaluation.compare import BASELINE
from iquitos_rl.evaluation.report.data import Row

__all__ = ["AGENT_CLASSES", "Look", "look_of"]

AGENT_CLASSES = 4
"""Agents take these classes in turn; further ones share them, told apart by their labels."""


@dataclass(frozen=True)
class Look:
    """Class (colour and dash, in the style sheet) and marker of a controller."""

    name: str
    marker: str


def look_of(controller: str, rows: Sequence[Row]) -> Look:
    """The look of one of the rows' controllers; that of an agent for a name that no row has."""
    if controller == BASELINE:
        return Look("base", "circle")
    kinds = {row["controller"]: row["kind"] for row in rows}
    if kinds.get(controller) == "optimum":
        return Look("limit", "diamond")
    if kinds.get(controller) == "rule":
        return Look("rule", "circle")
    agents = [name for name, kind in kinds.items() if kind == "agent"]
    number = agents.index(controller) if controller in agents else len(agents)
    return Look(f"agent{number % AGENT_CLASSES}", "square")
