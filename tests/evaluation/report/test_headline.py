"""One sentence says what was reached, and never more than that."""

from __future__ import annotations

from typing import Any

import pytest

from iquitos_rl.evaluation.report.headline import Headline, headline
from iquitos_rl.evaluation.report.texts import load_texts
from tests.evaluation.report.report_data import agent, optimum, report_data, row, rule

BASE = row("no_control")
STARVING: dict[str, Any] = {"ev_satisfaction": 0.4, "meets_service": False, "score": 0.3}


def said(*rows, lang="en", **changes) -> Headline:
    found = headline(report_data(rows=list(rows), **changes), load_texts(lang))
    notes = tuple(note.replace("\u00a0", " ") for note in found.notes)
    return Headline(found.sentence.replace("\u00a0", " "), notes, found.row)


def test_the_best_agent_that_serves_is_the_headline():
    found = said(BASE, rule(), optimum(), agent(), agent("ppo", score=0.7))
    assert found.sentence == (
        "SAC imports 21 % less than no control while vehicles leave with 91 % of the charge they need, "
        "and captures 86 % of the improvement that is physically possible."
    )
    assert found.row is not None
    assert found.row["controller"] == "sac"


def test_it_is_said_that_no_agent_beats_the_best_rule():
    found = said(BASE, rule(), optimum(), agent())
    assert "No trained agent beats the best rule" in found.notes[1]
    assert "0.580" in found.notes[1]
    assert "0.620" in found.notes[1]


def test_it_is_said_that_an_agent_beats_the_best_rule():
    found = said(BASE, rule(), agent(score=0.55))
    assert found.notes[1].startswith("SAC beats the best rule")


def test_a_lead_within_the_interval_over_seeds_is_no_lead():
    close = agent(score=0.57, seeds=3, intervals={"score": [0.55, 0.59]})
    assert "within chance" in said(BASE, rule(), close).notes[1]
    clear = agent(score=0.57, seeds=3, intervals={"score": [0.565, 0.575]})
    assert said(BASE, rule(), clear).notes[1].startswith("SAC beats the best rule")


def test_an_agent_that_starves_vehicles_is_neither_headline_nor_better():
    found = said(BASE, rule(), agent(**STARVING))
    assert found.sentence.startswith("The best rule imports 20 % less than no control")
    assert found.notes[1] == "No trained agent meets the service gate."
    assert found.notes[2].startswith("No trained agent beats the best rule")


def test_without_agents_the_best_rule_is_the_headline():
    found = said(BASE, rule(), optimum())
    assert found.sentence.startswith("The best rule imports 20 % less")
    assert found.sentence.endswith("captures 94 % of the improvement that is physically possible.")
    assert found.notes == (
        "1 of 1 controllers deliver at least 88 % of the required charge. Only those count.",
        "No trained agent was evaluated.",
    )


def test_without_an_optimum_nothing_is_said_of_what_is_possible():
    found = said(BASE, rule(captured_share=None))
    assert found.sentence.endswith("with 94 % of the charge they need.")


def test_where_none_serves_the_best_served_is_named_and_no_import():
    found = said(BASE, rule(ev_satisfaction=0.85, meets_service=False), agent(**STARVING), optimum())
    assert found.sentence == (
        "No controller serves the vehicles well enough: the best, best rule, delivers 85 % of the required "
        "charge, and 88 % is needed."
    )
    assert found.notes[0].startswith("None of the 2 controllers delivers at least 88 %")


def test_only_no_control_is_said_to_be_alone():
    found = said(BASE)
    assert found.sentence.startswith("Only no control was evaluated")
    assert found.row is None


@pytest.mark.parametrize(
    ("change", "words"),
    [(0.12, "imports 12 % more than"), (-0.004, "imports as much as"), (None, "imports as much as")],
)
def test_more_and_as_much_import_are_said(change, words):
    assert words in said(BASE, rule(import_change_share=change)).sentence


def test_a_score_worse_than_no_control_is_not_called_a_capture():
    found = said(BASE, rule(score=1.05, captured_share=-0.1))
    assert found.sentence.endswith("but scores worse than no control (1.05, where no control is 1).")


def test_a_demonstration_says_so_in_the_headline_itself():
    assert said(BASE, agent(), demonstration=True).sentence.startswith("Demonstration only: SAC imports")


def test_the_headline_is_spoken_in_spanish():
    found = said(BASE, rule(), agent(**STARVING), lang="es")
    assert found.sentence.startswith("La mejor regla importa 20 % menos de la red que sin control")
    assert "Ningún agente entrenado supera a la mejor regla" in found.notes[2]
