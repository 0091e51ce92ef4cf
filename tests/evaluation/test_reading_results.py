"""Which results a folder holds, and what is said of damaged ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from iquitos_rl.evaluation.compare import ComparisonError, compare, read_results
from tests.evaluation.test_compare import agent, result


def write(folder: Path, *results: dict[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    for each in results:
        (folder / f"result_{each['controller']}.json").write_text(json.dumps(each), encoding="utf-8")


def test_results_of_several_folders_are_read_and_say_where_they_are_from(tmp_path: Path):
    write(tmp_path / "a", result("no_control"), agent("ppo"))
    write(tmp_path / "b", result("no_control"), agent("ppo", seed=1))
    found = read_results(tmp_path / "a", tmp_path / "b")
    assert [(r["controller"], Path(r["folder"]).name) for r in found] == [
        ("no_control", "a"),
        ("ppo", "a"),
        ("no_control", "b"),
        ("ppo", "b"),
    ]
    assert compare(found)[1]["seeds"] == 2


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


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b'{"results": 3}'], ids=repr)
def test_a_damaged_summary_is_named_in_one_line(content: bytes, tmp_path: Path):
    (tmp_path / "result_no_control.json").write_text(json.dumps(result("no_control")), encoding="utf-8")
    (tmp_path / "summary.json").write_bytes(content)
    with pytest.raises(ComparisonError) as caught:
        read_results(tmp_path)
    assert "summary.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_of_agents_only_those_of_the_last_run_are_read_and_of_rules_all(tmp_path: Path):
    write(tmp_path, result("no_control"), result("mpc"), agent("a2c"), agent("ppo"))
    summary = {"results": ["result_no_control.json", "result_ppo.json"]}
    (tmp_path / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    assert {r["controller"] for r in read_results(tmp_path)} == {"no_control", "ppo", "mpc"}


def test_rules_that_an_earlier_run_left_behind_do_not_stop_a_comparison(tmp_path: Path):
    old = {"start_step": 0, "steps": 24}
    write(tmp_path, result("no_control"), result("laxity_first", window=old), agent("ppo"))
    summary = {"results": ["result_no_control.json", "result_ppo.json"]}
    (tmp_path / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    assert [row["controller"] for row in compare(read_results(tmp_path))] == ["no_control", "ppo"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("score", None),
        ("score", "a"),
        ("grid_import_kwh", "x"),
        ("ev_satisfaction", "x"),
        ("controller", 3),
        ("engine", None),
        ("kind", "wizard"),
        ("window", []),
        ("year", True),
    ],
)
def test_a_result_with_a_wrong_value_is_named_with_its_key(key: str, value: Any, tmp_path: Path):
    write(tmp_path, result("no_control"))
    path = tmp_path / "result_no_control.json"
    path.write_text(json.dumps(result("no_control") | {key: value}), encoding="utf-8")
    with pytest.raises(ComparisonError, match=rf"result_no_control\.json: damaged: {key} is"):
        read_results(tmp_path)


@pytest.mark.parametrize("key", ["engine", "ev_satisfaction", "co2_net_kg", "cost_usd", "kind"])
def test_a_result_of_an_older_release_is_named_with_what_it_lacks(key: str, tmp_path: Path):
    value = result("no_control")
    del value[key]
    write(tmp_path, value)
    with pytest.raises(ComparisonError, match=rf"of another release: there is no {key} in it"):
        read_results(tmp_path)
