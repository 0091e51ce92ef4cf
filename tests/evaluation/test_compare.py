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
    comparison_table,
    kpi_table,
    read_results,
    write_comparison,
)

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
        "engine": "citylearn",
        "split": "test",
        "year": 0,
        "window": {"start_step": 0, "steps": 8759},
        "site": "iquitos_station",
        "dataset_fingerprint": "0" * 64,
        "weights": dict(WEIGHTS),
    }
    return kpis | changes


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


def test_the_order_is_kept_and_the_results_are_not_changed():
    results = [result("sac"), result("no_control"), result("a2c")]
    rows = compare(results)
    assert [row["controller"] for row in rows] == ["sac", "no_control", "a2c"]
    assert "import_change_share" not in results[0]


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
        ("site", "iquitos_mall"),
    ],
)
def test_what_was_measured_on_something_else_is_refused_with_the_reason(key: str, value: Any):
    with pytest.raises(ComparisonError) as caught:
        compare([result("no_control"), result("ppo", **{key: value})])
    text = str(caught.value)
    assert "\n" not in text
    assert "ppo" in text
    assert key in text
    assert str(value) in text


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
    return compare([result("no_control"), result("ppo", **large), result("sac", ev_satisfaction=None)])


@pytest.mark.parametrize("demonstration", [False, True])
def test_the_comparison_fits_in_80_columns_with_nothing_cut_off(rows, demonstration: bool):
    lines = rendered(comparison_table(rows, demonstration=demonstration))
    assert max(len(line) for line in lines) <= 80
    text = "\n".join(lines)
    assert "…" not in text
    for value in ("12345.7", "2,345,679", "-5678.9", "12.346", "100.0 %", "+2369.1 %"):
        assert value in text, value


def test_import_is_never_shown_without_satisfaction(rows):
    lines = rendered(comparison_table(rows))
    header = " ".join(lines[:4])
    assert "import" in header
    assert "faction" in header
    assert "91.0 %" in next(line for line in lines if "no_control" in line)
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
    assert [row["controller"] for row in read] == ["no_control", "ppo", "sac"]
    assert float(read[1]["grid_import_kwh"]) == 12_345_678.9
    assert read[2]["ev_satisfaction"] == ""
    assert "window" not in read[0]
    assert None not in read[0]  # no more values than columns


def test_results_of_different_keys_make_one_table(tmp_path: Path):
    write_comparison(compare([result("no_control"), result("ppo", experiment="x")]), tmp_path)
    with (tmp_path / "comparison.csv").open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [row["experiment"] for row in read] == ["", "x"]


def test_results_are_read_no_control_first(tmp_path: Path):
    for name in ("a2c", "no_control", "sac"):
        (tmp_path / f"result_{name}.json").write_text(json.dumps(result(name)), encoding="utf-8")
    assert [r["controller"] for r in read_results(tmp_path)] == ["no_control", "a2c", "sac"]


def test_a_folder_without_results_is_refused(tmp_path: Path):
    with pytest.raises(ComparisonError, match="no results"):
        read_results(tmp_path)
    with pytest.raises(ComparisonError, match="no results"):
        read_results(tmp_path / "not there")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[]", b"{}", b'"text"'], ids=repr)
def test_a_damaged_result_is_named_in_one_line(content: bytes, tmp_path: Path):
    (tmp_path / "result_ppo.json").write_bytes(content)
    with pytest.raises(ComparisonError) as caught:
        read_results(tmp_path)
    assert "result_ppo.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}"], ids=repr)
def test_a_damaged_summary_is_named_in_one_line(content: bytes, tmp_path: Path):
    (tmp_path / "result_no_control.json").write_text(json.dumps(result("no_control")), encoding="utf-8")
    (tmp_path / "summary.json").write_bytes(content)
    with pytest.raises(ComparisonError) as caught:
        read_results(tmp_path)
    assert "summary.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_the_results_of_the_last_run_are_read(tmp_path: Path):
    for name in ("no_control", "a2c", "ppo"):
        (tmp_path / f"result_{name}.json").write_text(json.dumps(result(name)), encoding="utf-8")
    summary = {"results": ["result_no_control.json", "result_ppo.json"]}
    (tmp_path / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    assert [r["controller"] for r in read_results(tmp_path)] == ["no_control", "ppo"]


def test_the_table_says_which_engine_made_each_number():
    same = [result("no_control"), result("ppo")]
    assert "engine citylearn" in "\n".join(rendered(comparison_table(compare(same))))
    mixed = [result("no_control"), result("ppo", engine="batch")]
    text = "\n".join(rendered(comparison_table(compare(mixed))))
    assert "engine citylearn, batch" in text
    assert "no_control (citylearn)" in text
    assert "ppo (batch)" in text
