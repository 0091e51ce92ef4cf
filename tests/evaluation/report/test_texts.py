"""Words in two languages with the same keys, none unused, and numbers as both languages write them."""

from __future__ import annotations

import string
from typing import Any

import pytest

from iquitos_rl.evaluation.report import LANGUAGES, render_report
from iquitos_rl.evaluation.report.texts import Texts, load_texts
from tests.evaluation.report.report_data import agent, hours, optimum, report_data, row, rule


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_languages_have_the_same_keys_with_the_same_fields():
    english, spanish = (load_texts(lang).words for lang in LANGUAGES)
    assert english.keys() == spanish.keys()
    for key, text in english.items():
        assert isinstance(text, str), key
        assert fields(text) == fields(spanish[key]), key


def test_texts_are_translated():
    english, spanish = (load_texts(lang).words for lang in LANGUAGES)
    alike = {key for key, text in english.items() if text == spanish[key]}
    symbols = {"hour", "range", "flow-pv", "score.co2", "score.solar", "heat.unit", "key.import_note"}
    symbols |= {"gate.served", "gate.unserved", "expected.reached", "expected.missed"}
    symbols |= {"co2.axis", "define.co2.term"}
    assert alike == symbols


def test_every_text_is_said_by_some_report(monkeypatch):
    said = set()
    plain = Texts.__call__

    def listening(self: Texts, key: str, **values: object) -> str:
        said.add(key)
        return plain(self, key, **values)

    monkeypatch.setattr(Texts, "__call__", listening)
    every_detail: dict[str, Any] = {
        "ev_satisfaction_worst_decile": 0.5,
        "unserved_energy_kwh": 1.0,
        "self_sufficiency": 0.4,
        "storage_losses_kwh": 1.0,
        "bess_cycles": 1.0,
        "bess_throughput_kwh": 1.0,
        "peak_import_kw": 1.0,
        "ramping_kw": 1.0,
        "feeder_utilisation": 0.3,
        "feeder_full_hours": 1,
    }
    base = row("no_control", **every_detail)
    interval = {"score": [0.5, 0.7], "ev_satisfaction": [0.9, 0.92]}
    discharging = hours().assign(ev_discharge_kwh=1.0, bess_charge_kwh=1.0, bess_discharge_kwh=1.0)
    starving: dict[str, Any] = {"meets_service": False, "ev_satisfaction": 0.5}
    cases: list[dict[str, Any]] = [
        {"demonstration": True},
        {
            "rows": [base, rule(), agent(score=0.57, seeds=3, intervals=interval)],
            "window": {"start_step": 0, "steps": 8759},
        },
        {"rows": [base, rule(), agent(score=0.5)], "split": "train", "hours": {"no_control": discharging}},
        {
            "rows": [base, rule(**starving), agent(**starving), optimum()],
            "split": "validation",
            "frontier": None,
        },
        {"rows": [base, rule(**starving, expected={"import_change_share": 0.0})], "departures": {}},
        {"rows": [base, rule(), row("none", **starving, expected={"ev_satisfaction": 0.9}), agent("ppo")]},
        {"rows": [base, rule(import_change_share=0.1), row("none", ev_satisfaction=0.3)]},
        {"rows": [base, agent(import_change_share=0.0, score=1.2)], "learning": {}},
        {"rows": [base], "hours": {}, "frontier": None},
        {"bess_capacity_kwh": None, "hours": {"no_control": hours([5.0])}},
        {"hours": {"no_control": hours([0.0, 0.0])}},
        {"hours": {"no_control": hours().head(23)}},
        {"hours": {"no_control": hours([1.0] * 40)}, "rows": [base | {"ev_satisfaction": None}]},
        {"learning": {"sac": report_data().learning["sac"].head(1)}, "rows": [base, agent(), agent("ppo")]},
        {"rows": [optimum()]},
    ]
    for changes in cases:
        render_report(report_data(**changes))
    # Read when the texts are loaded; and no headline is about these two.
    elsewhere = {"months", "months.short", "subject.no_control", "subject.oracle"}
    assert load_texts("en").words.keys() - said == elsewhere


def test_another_language_is_refused_with_what_is_allowed():
    with pytest.raises(ValueError, match=r"^lang 'fr': reports are written in en or es$"):
        load_texts("fr")


@pytest.mark.parametrize("lang", LANGUAGES)
def test_numbers_have_a_decimal_point_and_commas_in_both_languages(lang):
    texts = load_texts(lang)
    assert texts.number(1234.56, 1) == "1,234.6"
    assert texts.number(-1234.56, 1) == "\u22121,234.6"
    assert texts.number(61.04, 1, sign=True) == "+61.0"
    assert texts.percent(0.7779, 1) == "77.8\u00a0%"
    assert texts.percent(-0.2) == "\u221220\u00a0%"


def test_what_rounds_to_zero_has_no_sign():
    assert load_texts("en").number(-0.04, 1, sign=True) == "0.0"


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_what_is_not_known_is_a_dash(value):
    assert load_texts("en").number(value) == load_texts("en").percent(value) == "\u2013"


@pytest.mark.parametrize(
    ("day", "english", "spanish"),
    [(0, "1 January", "1 de enero"), (58, "28 February", "28 de febrero"), (59, "1 March", "1 de marzo")],
)
def test_days_of_the_year_are_dates_of_a_year_of_365_days(day, english, spanish):
    assert load_texts("en").day(day) == english
    assert load_texts("es").day(day) == spanish


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "\u2013"), (42.0, "42\u00a0s"), (150.0, "2\u00a0min"), (5400.0, "1.5\u00a0h")],
)
def test_durations_are_in_the_unit_that_reads_best(seconds, words):
    assert load_texts("en").duration(seconds) == words
