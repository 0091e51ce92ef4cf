"""Results side by side: only what is comparable, always with satisfaction, for people and programs."""

from __future__ import annotations

import csv
import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from iquitos_rl.evaluation.compare import (
    ComparisonError,
    compare,
    write_comparison,
)
from iquitos_rl.evaluation.console import comparison_table, kpi_table

WEIGHTS = {
    "co2_weight": 0.5,
    "solar_weight": 0.2,
    "cost_weight": 0.15,
    "ev_satisfaction_weight": 0.1,
    "grid_stability_weight": 0.05,
}


def result(controller: str, **changes: Any) -> dict[str, Any]:
    """A result as `Evaluator` makes it, of a site as large as the real one."""
    kpis: dict[str, Any] = {
        "grid_import_kwh": 500_000.0,
        "grid_export_kwh": 120_000.0,
        "solar_utilisation": 0.83,
        "ev_satisfaction": 0.91,
        "ev_departures": 120_000,
        "co2_grid_kg": 226_050.0,
        "co2_net_kg": -12_345.6,
        "cost_usd": 110_000.0,
        "mean_daily_peak_kw": 240.0,
        "score": 1.0,
        "score_components": {
            "co2": 0.5,
            "solar": 0.2,
            "cost": 0.15,
            "ev_satisfaction": 0.1,
            "grid_stability": 0.05,
        },
        "controller": controller,
        "kind": "optimum" if controller == "oracle" else "rule",
        "engine": "citylearn",
        "split": "test",
        "year": 0,
        "window": {"start_step": 0, "steps": 8759},
        "site": "iquitos_station",
        "dataset_fingerprint": "0" * 64,
        "weights": dict(WEIGHTS),
        "definitions": 1,
        "controller_settings": {},
    }
    return kpis | changes


def agent(name: str, **changes: Any) -> dict[str, Any]:
    """The result of a trained agent."""
    training = {"training_seconds": 754.0, "status": "finished"}
    return result(name, **({"kind": "agent", "seed": 0, "training": training, "policy": "p"} | changes))


def rendered(table: Any, width: int = 80) -> list[str]:
    console = Console(file=StringIO(), width=width)
    console.print(table)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_changes_are_relative_to_no_control():
    rows = compare(
        [result("no_control"), result("ppo", grid_import_kwh=400_000.0, cost_usd=121_000.0, co2_grid_kg=0.0)]
    )
    assert rows[0]["import_change_share"] == rows[0]["cost_change_share"] == 0.0
    assert rows[1]["import_change_share"] == pytest.approx(-0.2)
    assert rows[1]["cost_change_share"] == pytest.approx(0.1)
    assert rows[1]["co2_change_share"] == -1.0


def test_the_ladder_goes_from_no_control_over_rules_and_agents_to_the_optimum():
    results = [
        agent("sac", score=0.57),
        result("oracle", score=0.5),
        result("best_rule", score=0.54),
        agent("a2c", score=0.6),
        result("no_control"),
        result("random", score=1.5),
    ]
    rows = compare(results)
    assert [row["controller"] for row in rows] == [
        "no_control",
        "random",
        "best_rule",
        "a2c",
        "sac",
        "oracle",
    ]
    assert [row["kind"] for row in rows] == ["rule"] * 3 + ["agent"] * 2 + ["optimum"]
    assert "import_change_share" not in results[0]


def test_what_is_captured_of_the_possible_is_relative_to_the_optimum():
    rows = compare([result("no_control"), agent("ppo", score=0.6), result("oracle", score=0.5)])
    assert [row["captured_share"] for row in rows] == pytest.approx([0.0, 0.8, 1.0])
    assert compare([result("no_control"), agent("ppo", score=0.6)])[1]["captured_share"] is None


def test_the_service_gate_is_of_satisfaction_alone():
    rows = compare([result("no_control", ev_satisfaction=0.879), result("best_rule", ev_satisfaction=0.88)])
    assert [row["meets_service"] for row in rows] == [False, True]
    assert compare([result("no_control", ev_satisfaction=None)])[0]["meets_service"] is None
    assert compare([result("no_control", ev_satisfaction=0.5)], 0.4)[0]["meets_service"] is True


def test_an_agent_stands_beside_what_the_report_expects_of_it():
    rows = compare([result("no_control"), agent("sac"), result("best_rule", score=1.1)])
    by_name = {row["controller"]: row for row in rows}
    assert by_name["sac"]["expected"]["co2_net_kg"] == -45_000
    assert by_name["sac"]["training_seconds"] == 754.0
    assert by_name["best_rule"]["expected"] is None
    elsewhere = compare([result("no_control", site="mall"), agent("sac", site="mall")])
    assert elsewhere[1]["expected"] is None  # the report is about the reference site
    week = {"start_step": 0, "steps": 168}
    short = compare([result("no_control", window=week), agent("sac", window=week)])
    assert short[1]["expected"] is None  # and about years
    text = "\n".join(rendered(comparison_table(rows)))
    assert "-18 " in text
    assert "0:12:34" in text


def test_seeds_of_an_agent_become_one_row_with_an_interval():
    results = [agent("ppo", seed=seed, score=score) for seed, score in ((0, 0.6), (1, 0.62), (2, 0.61))]
    rows = compare([result("no_control"), *results, results[0]])  # a folder named twice adds no seed
    assert len(rows) == 2
    assert rows[1]["seeds"] == 3
    assert rows[1]["score"] == pytest.approx(0.61)
    assert rows[1]["intervals"]["score"] == pytest.approx([0.61 - 0.024841, 0.61 + 0.024841], abs=1e-5)
    text = "\n".join(rendered(comparison_table(rows)))
    assert "±0.025" in text
    assert "3 seeds" in text


def test_a_single_seed_is_said_to_be_one():
    said = "Agents of one seed have no interval"
    single = compare([result("no_control"), agent("ppo")])
    assert said in "\n".join(rendered(comparison_table(single)))
    rules = compare([result("no_control"), result("best_rule")])
    assert said not in "\n".join(rendered(comparison_table(rules)))


def test_two_seeds_are_too_few_for_an_interval_and_the_table_says_so():
    rows = compare([result("no_control"), agent("ppo", seed=0), agent("ppo", seed=1)])
    assert rows[1]["intervals"] == {}
    assert "no interval of so few" in "\n".join(rendered(comparison_table(rows)))


def test_what_is_captured_counts_from_no_control_even_where_it_does_not_score_one():
    # an objective's divisor may be at its floor
    rows = compare([result("no_control", score=0.9), agent("ppo", score=0.4), result("oracle", score=0.3)])
    assert [row["captured_share"] for row in rows] == pytest.approx([0.0, 5 / 6, 1.0])


def test_other_optima_do_not_say_what_is_possible():
    other = result("oracle_satisfaction_first", score=0.7, kind="optimum")
    rows = compare([result("no_control"), other, result("oracle", score=0.5), agent("ppo", score=0.6)])
    assert {row["controller"]: row["captured_share"] for row in rows}["ppo"] == pytest.approx(0.8)
    assert compare([result("no_control"), other])[1]["captured_share"] is None


def test_other_settings_of_one_algorithm_are_other_rows_named_after_their_experiments():
    rows = compare(
        [
            result("no_control"),
            agent("ppo", score=0.8, experiment="report", controller_settings={"lr": 1}),
            agent("ppo", score=0.5, experiment="tuned", controller_settings={"lr": 2}),
        ]
    )
    assert [(row["controller"], row["score"], row["seeds"]) for row in rows[1:]] == [
        ("ppo@report", 0.8, 1),
        ("ppo@tuned", 0.5, 1),
    ]
    assert all(row["result_name"] == "ppo" and row["expected"] for row in rows[1:])


def test_two_policies_of_one_seed_are_refused():
    with pytest.raises(ComparisonError, match=r"two results of seed 0 .* of a and of b"):
        compare([result("no_control"), agent("ppo", policy="a"), agent("ppo", policy="b")])


def test_an_agent_and_a_rule_of_one_name_are_never_one_row():
    rows = compare([result("no_control"), result("ppo", score=0.7), agent("ppo", score=0.6, experiment="x")])
    assert len({row["controller"] for row in rows}) == 3


def test_a_rule_is_one_row_however_many_experiments_have_it():
    rows = compare([result("no_control"), result("no_control"), result("best_rule"), result("best_rule")])
    assert [row["controller"] for row in rows] == ["no_control", "best_rule"]


def test_a_starving_controller_is_marked_before_its_savings():
    rows = compare([result("no_control"), agent("ppo", ev_satisfaction=0.41, grid_import_kwh=1000.0)])
    lines = rendered(comparison_table(rows))
    line = next(line for line in lines if "ppo" in line)
    assert line.index("41.0*") < line.index("-100")
    assert "below the service gate of 88 %" in "\n".join(lines)


@pytest.mark.parametrize(("split", "said"), [("test", False), ("validation", True), ("train", True)])
def test_years_that_agents_have_seen_are_no_result(split: str, said: bool):
    rows = compare([result("no_control", split=split), agent("ppo", split=split)])
    assert ("agents have seen it" in "\n".join(rendered(comparison_table(rows)))) is said


def test_where_no_control_is_zero_there_is_no_change_to_give():
    rows = compare([result("no_control", grid_import_kwh=0.0), result("ppo")])
    assert rows[1]["import_change_share"] is None
    text = "\n".join(rendered(comparison_table(rows)))
    assert "nan" not in text
    assert "inf" not in text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dataset_fingerprint", "1" * 64),
        ("window", {"start_step": 24, "steps": 8735}),
        ("weights", WEIGHTS | {"co2_weight": 0.4, "solar_weight": 0.3}),
        ("split", "validation"),
        ("year", 1),
        ("definitions", 2),
        ("site", "iquitos_mall"),
    ],
)
def test_what_was_measured_on_something_else_is_refused_with_the_reason(key: str, value: Any):
    with pytest.raises(ComparisonError) as caught:
        compare([result("no_control"), result("ppo", **{key: value})])
    text = str(caught.value)
    assert "\n" not in text
    assert "ppo" in text
    assert f"differ in {key}: " in text
    assert len(text) < 250


def test_a_result_that_does_not_say_what_it_was_measured_on_is_refused():
    unknown = result("ppo")
    del unknown["dataset_fingerprint"]
    with pytest.raises(ComparisonError, match="dataset_fingerprint"):
        compare([result("no_control"), unknown])


@pytest.mark.parametrize("results", [[], [result("ppo")]], ids=["nothing", "agents only"])
def test_without_no_control_there_is_nothing_to_compare_with(results: list[dict[str, Any]]):
    with pytest.raises(ComparisonError, match="no_control"):
        compare(results)


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    large = {
        "grid_import_kwh": 12_345_678.9,
        "cost_usd": 2_345_678.9,
        "co2_net_kg": -5_678_901.2,
        "mean_daily_peak_kw": 12_345.6,
        "score": 12.3456,
        "ev_satisfaction": 1.0,
    }
    return compare(
        [
            result("no_control"),
            result("no_control+self_consumption", score=1.2),
            agent("ppo", **large),
            agent("sac", ev_satisfaction=None),
            result("oracle", score=0.5),
            result("oracle_satisfaction_first", score=0.6),
        ]
    )


@pytest.mark.parametrize("demonstration", [False, True])
def test_the_comparison_fits_in_80_columns_with_nothing_cut_off(rows, demonstration: bool):
    lines = rendered(comparison_table(rows, demonstration=demonstration))
    assert max(len(line) for line in lines) <= 80
    text = "\n".join(lines)
    assert "…" not in text
    for value in ("12346", "-5679", "12.346", "100.0", "+2369", "+self_consumption"):
        assert value in text, value


def test_import_is_never_shown_without_satisfaction(rows):
    lines = rendered(comparison_table(rows))
    header = " ".join(lines[:6])
    assert "import" in header
    assert "faction" in header
    assert header.index("faction") < header.index("MWh")
    assert "91.0" in next(line for line in lines if "no_control" in line)
    single = "\n".join(rendered(kpi_table(result("ppo"))))
    assert "grid_import_kwh" in single
    assert "ev_satisfaction" in single


def test_the_table_says_what_was_measured(rows):
    title = rendered(comparison_table(rows))[0]
    for part in ("iquitos_station", "test year 0", "full year", "citylearn"):
        assert part in title
    window = {"start_step": 48, "steps": 60}
    title = rendered(comparison_table(compare([result("no_control", window=window)])))[0]
    assert "2.5 days from day 2" in title


def test_a_demonstration_says_that_it_is_not_a_result(rows):
    assert "Not a result" in "\n".join(rendered(comparison_table(rows, demonstration=True)))
    assert "Not a result" not in "\n".join(rendered(comparison_table(rows)))


def test_the_kpi_table_fits_in_80_columns_and_has_every_number():
    lines = rendered(kpi_table(result("ppo")))
    assert max(len(line) for line in lines) <= 80
    text = "\n".join(lines)
    for name, value in result("ppo").items():
        if isinstance(value, float):
            assert name in text
    assert "score: solar" in text
    assert "120,000" in text  # a count has no decimals


def test_the_files_can_be_read_again(rows, tmp_path: Path):
    write_comparison(rows, tmp_path)
    assert json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8")) == rows
    with (tmp_path / "comparison.csv").open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [row["controller"] for row in read] == [row["controller"] for row in rows]
    by_name = {row["controller"]: row for row in read}
    assert float(by_name["ppo"]["grid_import_kwh"]) == 12_345_678.9
    assert by_name["sac"]["ev_satisfaction"] == ""
    assert "window" not in read[0]
    assert None not in read[0]  # no more values than columns


def test_results_of_different_keys_make_one_table(tmp_path: Path):
    write_comparison(compare([result("no_control"), result("ppo", experiment="x")]), tmp_path)
    with (tmp_path / "comparison.csv").open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [row["experiment"] for row in read] == ["", "x"]


def test_the_table_says_which_engine_made_each_number():
    same = [result("no_control"), agent("ppo")]
    assert "engine citylearn" in "\n".join(rendered(comparison_table(compare(same))))
    mixed = [result("no_control"), agent("ppo", engine="batch")]
    text = "\n".join(rendered(comparison_table(compare(mixed))))
    assert "engine citylearn, batch" in text
    assert "no_control" in text
    assert "(citylearn)" in text
    assert "(batch)" in text
