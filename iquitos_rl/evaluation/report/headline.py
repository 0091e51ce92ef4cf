"""The report in one sentence, computed from its rows, and what must be said next to it."""

from __future__ import annotations

from dataclasses import dataclass

from iquitos_rl.evaluation.compare import BASELINE
from iquitos_rl.evaluation.report.data import ReportData, Row
from iquitos_rl.evaluation.report.selection import best_of
from iquitos_rl.evaluation.report.texts import Texts

__all__ = ["Headline", "headline"]

SAME_SHARE = 0.005
"""A change of import that rounds to 0 % is no change."""


@dataclass(frozen=True)
class Headline:
    """What a reader should know first.

    Attributes:
        sentence: the headline.
        notes: further sentences: how many controllers serve, and agents against rules.
        row: the controller it is about; None if there is nothing but no control.
    """

    sentence: str
    notes: tuple[str, ...]
    row: Row | None


def headline(data: ReportData, texts: Texts) -> Headline:
    """The headline: about the best agent that meets the service, else the best rule that does."""
    agent, rule = best_of(data.rows, "agent"), best_of(data.rows, "rule")
    sentence, row = _sentence(data, agent, rule, texts)
    if data.demonstration:
        sentence = texts("headline.demonstration", sentence=sentence)
    notes = (*_service(data, texts), *_agents(data, agent, rule, texts))
    return Headline(sentence, notes, row)


def _sentence(data: ReportData, agent: Row | None, rule: Row | None, texts: Texts) -> tuple[str, Row | None]:
    serving = [row for row in (agent, rule) if row is not None and row["meets_service"]]
    if serving:
        return _achievement(serving[0], texts), serving[0]
    tried = [row for row in (agent, rule) if row is not None]
    if not tried:
        return texts("headline.only_baseline"), None
    best = max(tried, key=lambda row: row["ev_satisfaction"] or 0.0)
    sentence = texts(
        "headline.none_serves",
        gate=texts.percent(data.minimum_satisfaction),
        name=texts.controller(best["controller"]),
        satisfaction=texts.percent(best["ev_satisfaction"]),
    )
    return sentence, best


def _achievement(row: Row, texts: Texts) -> str:
    change, captured = row["import_change_share"], row.get("captured_share")
    way = "same" if change is None or abs(change) < SAME_SHARE else "less" if change < 0 else "more"
    clauses = [
        texts(
            f"headline.{way}",
            name=texts.subject(row["controller"]),
            change=texts.percent(None if change is None else abs(change)),
        )
    ]
    if row["ev_satisfaction"] is not None:
        clauses.append(texts("headline.served", satisfaction=texts.percent(row["ev_satisfaction"])))
    if row["score"] > 1:
        clauses.append(texts("headline.worse", score=texts.number(row["score"], 2)))
    elif captured is not None:
        clauses.append(texts("headline.captured", captured=texts.percent(captured)))
    return "".join(clauses) + "."


def _service(data: ReportData, texts: Texts) -> list[str]:
    tried = [row for row in data.rows if row["controller"] != BASELINE and row["kind"] != "optimum"]
    serving = sum(bool(row["meets_service"]) for row in tried)
    gate = texts.percent(data.minimum_satisfaction)
    key = "some" if serving else "none"
    return [texts(f"service.{key}", serving=serving, tried=len(tried), gate=gate)] if tried else []


def _agents(data: ReportData, agent: Row | None, rule: Row | None, texts: Texts) -> list[str]:
    if agent is None:
        return [texts("agents.none")]
    notes = []
    if not agent["meets_service"]:
        notes.append(texts("agents.none_serves"))
    if rule is None or not rule["meets_service"]:
        return notes
    fields = {
        "agent": texts.controller(agent["controller"]),
        "rule": texts.controller(rule["controller"]),
        "agent_score": texts.number(agent["score"], 3),
        "rule_score": texts.number(rule["score"], 3),
    }
    low, high = (agent.get("intervals") or {}).get("score", (agent["score"], agent["score"]))
    if not agent["meets_service"] or agent["score"] >= rule["score"]:
        notes.append(texts("agents.beaten", **fields))
    elif low <= rule["score"] <= high:
        notes.append(texts("agents.perhaps", **fields, seeds=agent.get("seeds", 1)))
    else:
        notes.append(texts("agents.beat", **fields))
    return notes
