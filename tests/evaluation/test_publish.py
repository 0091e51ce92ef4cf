"""From folders of results to a comparison on disk, and to a report of all that is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from iquitos_rl.config import WindowConfig
from iquitos_rl.control import ControllerError
from iquitos_rl.evaluation import Evaluator
from iquitos_rl.evaluation.compare import ComparisonError
from iquitos_rl.evaluation.ladder import (
    FRONTIER_FILE,
    LADDER,
    evaluate_ladder,
    ladder_controllers,
    write_frontier,
)
from iquitos_rl.evaluation.publish import publish

pytestmark = pytest.mark.integration

WINDOW = WindowConfig(start_day=3, steps=72)


@pytest.fixture(scope="module")
def evaluator(small_dataset: Any) -> Evaluator:
    return Evaluator(small_dataset)


@pytest.fixture(scope="module")
def results(evaluator: Evaluator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results") / "ladder"
    evaluate_ladder(evaluator, ladder_controllers(["best_rule", "oracle"]), WINDOW, folder)
    write_frontier(evaluator, WINDOW, folder)
    return folder


def test_the_ladder_begins_with_no_control_and_names_everything_once():
    names = [controller.name for controller in ladder_controllers(["best_rule", "no_control", "best_rule"])]
    assert names == ["no_control", "best_rule"]
    assert [controller.name for controller in ladder_controllers(LADDER)] == list(LADDER)


def test_an_unknown_name_is_refused_before_anything_is_simulated():
    with pytest.raises(ControllerError, match="best_ruel"):
        ladder_controllers(["oracle", "best_ruel"])


def test_a_comparison_is_written_in_all_its_forms(results: Path, tmp_path: Path):
    published = publish([results], tmp_path / "new")
    assert [row["controller"] for row in published.rows] == ["no_control", "best_rule", "oracle"]
    assert json.loads((tmp_path / "new/comparison.json").read_text()) == published.rows
    assert len(pd.read_csv(tmp_path / "new/comparison.csv")) == 3
    assert published.report == tmp_path / "new/report.html"
    page = published.report.read_text(encoding="utf-8")
    for name in ("no control", "best rule", "oracle"):
        assert name in page
    assert f"{published.rows[1]['score']:.3f}" in page
    assert not published.demonstration


def test_the_report_speaks_spanish(results: Path, tmp_path: Path):
    page = publish([results], tmp_path, lang="es").report.read_text(encoding="utf-8")
    assert '<html lang="es"' in page
    with pytest.raises(ValueError, match=r"en.*es"):
        publish([results], tmp_path / "other", lang="fr")
    assert not (tmp_path / "other").exists()


def test_the_frontier_is_shown_only_beside_results_of_the_same_hours(
    results: Path, evaluator: Evaluator, tmp_path: Path
):
    frontier = json.loads((results / FRONTIER_FILE).read_text())
    satisfaction, imported = frontier["ev_satisfaction"], frontier["grid_import_kwh"]
    assert satisfaction == sorted(satisfaction)
    assert imported == sorted(imported)
    ours = publish([results], tmp_path / "a").rows
    for row in ours:  # nothing lies below the frontier
        below = [i for s, i in zip(satisfaction, imported, strict=True) if s <= row["ev_satisfaction"]]
        assert row["grid_import_kwh"] >= max(below, default=0.0) * (1 - 1e-4)
    other = tmp_path / "other"
    evaluate_ladder(evaluator, ladder_controllers([]), WindowConfig(start_day=1, steps=48), other)
    (other / FRONTIER_FILE).write_text(json.dumps(frontier))
    from iquitos_rl.evaluation import publish as module

    assert module._frontier(ours[0], [other]) is not None  # it is of the hours of these rows
    theirs = publish([other], tmp_path / "b").rows
    assert module._frontier(theirs[0], [other]) is None


def test_results_of_another_dataset_are_refused_and_nothing_is_written(results: Path, tmp_path: Path):
    other = tmp_path / "other"
    other.mkdir()
    result = json.loads((results / "result_best_rule.json").read_text())
    (other / "result_best_rule.json").write_text(json.dumps(result | {"dataset_fingerprint": "f" * 64}))
    with pytest.raises(ComparisonError, match="dataset_fingerprint"):
        publish([results, other], tmp_path / "new")
    assert not (tmp_path / "new").exists()
