"""Manifest and summary: what a run was started with, how it ended, and who is best by validation alone."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from iquitos_rl.training import ExperimentError, TrainingOutcome
from iquitos_rl.training.experiment import check_experiment, differences, outcome_on_disk
from iquitos_rl.training.outputs import (
    AgentOutcome,
    best_agent,
    read_manifest,
    write_manifest,
    write_summary,
)
from iquitos_rl.training.trainable import _rank
from tests.training.small_run import make_run


def outcome(algorithm: str, **changes: Any) -> AgentOutcome:
    values: dict[str, Any] = {
        "algorithm": algorithm,
        "status": "finished",
        "env_steps": 96,
        "budget": 96,
        "training_seconds": 12.3,
        "checkpoint": f"/runs/x/{algorithm}/checkpoint_000001",
        "trial": f"/runs/x/{algorithm}",
    }
    return AgentOutcome(**(values | changes))


def result(controller: str, score: float, *, meets: bool = True, test_score: float = 1.0) -> dict[str, Any]:
    return {
        "controller": controller,
        "score": test_score,
        "validation": {"score": score, "satisfaction": 0.9 if meets else 0.5, "meets_service": meets},
    }


AGENTS = [outcome("a2c"), outcome("sac"), outcome("ppo")]


def test_the_best_agent_has_the_lowest_validation_score():
    results = [result("a2c", 0.9), result("sac", 0.7), result("ppo", 0.8)]
    assert best_agent(results, AGENTS) == "sac"


def test_the_test_year_does_not_choose_what_it_judges():
    results = [result("a2c", 0.9, test_score=0.1), result("ppo", 0.8, test_score=5.0)]
    assert best_agent(results, AGENTS) == "ppo"


def test_starving_the_vehicles_wins_nothing():
    results = [result("a2c", 0.2, meets=False), result("ppo", 0.95)]
    assert best_agent(results, AGENTS) == "ppo"
    assert best_agent(results[:1], AGENTS) is None


def test_only_agents_can_be_the_best_agent():
    rule = {"controller": "no_control", "score": 0.1}
    unvalidated = {"controller": "a2c", "score": 0.1, "validation": None}
    assert best_agent([rule, unvalidated], AGENTS) is None
    assert best_agent([result("no_control", 0.1), result("ppo", 0.9)], AGENTS) == "ppo"


def validation(score: float, satisfaction: float, meets: bool) -> dict[str, Any]:
    return {"score": score, "satisfaction": satisfaction, "meets_service": meets}


def test_policies_that_serve_rank_by_score_and_above_all_that_do_not():
    good, better = validation(0.9, 0.9, True), validation(0.8, 0.89, True)
    starving, less_starving = validation(0.1, 0.3, False), validation(0.6, 0.6, False)
    assert _rank(better) > _rank(good) > _rank(less_starving) > _rank(starving)


def test_an_equal_validation_does_not_replace_the_earlier_one():
    assert not _rank(validation(0.9, 0.9, True)) > _rank(validation(0.9, 0.99, True))


DATASET: Any = SimpleNamespace(path=Path("/data/small"), seed=7, fingerprint="f" * 64)


def test_a_manifest_reads_back_as_it_was_written(tmp_path: Path):
    run = make_run(tmp_path)
    write_manifest(tmp_path / "new/small", run, DATASET, {"per_trial": [{"CPU": 0.5}], "cpus": 2.0})
    manifest = read_manifest(tmp_path / "new/small")
    assert manifest.config == run
    assert manifest.dataset_fingerprint == "f" * 64
    raw = manifest.raw
    assert raw["experiment"] == "small"
    assert raw["seed"] == run.seed
    assert raw["dataset"]["seed"] == 7
    assert raw["resources"]["per_trial"] == [{"CPU": 0.5}]
    assert {"python", "ray", "torch", "citylearn", "numpy"} <= raw["versions"].keys()
    assert "git_commit" in raw


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe", b"{}", b'{"config": {}}', b'{"config": 3}'], ids=repr
)
def test_a_damaged_manifest_is_named_in_one_line(content: bytes, tmp_path: Path):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"manifest\.json: not a manifest of this release") as caught:
        read_manifest(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_manifest_is_not_an_experiment(tmp_path: Path):
    with pytest.raises(ValueError, match=r"not an experiment, there is no manifest\.json"):
        read_manifest(tmp_path)


def test_the_summary_says_what_ran_and_who_is_best(tmp_path: Path):
    run = make_run(tmp_path)
    outcomes = [outcome("a2c"), outcome("sac", status="failed", error="ValueError: no", checkpoint=None)]
    results = [{"controller": "no_control", "score": 1.0}, result("a2c", 0.9)]
    summary = write_summary(tmp_path / "out", run, outcomes, results, 1.04)
    read = json.loads((tmp_path / "out/summary.json").read_text(encoding="utf-8"))
    assert read == summary
    assert read["experiment"] == "small"
    assert read["demonstration"] is True
    assert read["best_agent"] == "a2c"
    assert "0.88" in read["best_agent_rule"]
    assert [agent["status"] for agent in read["agents"]] == ["finished", "failed"]
    assert read["agents"][1]["error"] == "ValueError: no"
    assert read["results"] == ["result_no_control.json", "result_a2c.json"]
    assert read["seconds"] == {"training": 12.3, "evaluation": 1.0}


def test_an_outcome_is_finished_when_every_agent_is():
    def of(*agents: AgentOutcome) -> TrainingOutcome:
        return TrainingOutcome(Path("x"), Path("y"), agents, (), {})

    assert of(outcome("a2c"), outcome("ppo")).finished
    assert not of(outcome("a2c"), outcome("ppo", status="stopped")).finished
    assert not of(outcome("a2c", status="failed")).finished


def test_differences_name_the_key_and_both_values():
    old = {"seed": 0, "algorithms": {"ppo": {"epochs": 4, "hidden": [8]}, "sac": None}}
    new = {"seed": 0, "algorithms": {"ppo": {"epochs": 5, "hidden": [8]}, "sac": {"tau": 0.1}}}
    assert differences(old, new) == [
        "algorithms.ppo.epochs 4 then, 5 now",
        'algorithms.sac null then, {"tau": 0.1} now',
    ]
    assert differences(old, old) == []
    assert differences({"a": 1}, {"b": None}) == ["a 1 then, null now"]


def begun(folder: Path) -> Path:
    """An experiment's folder with a manifest, as if it had begun."""
    experiment = folder / "runs/small"
    write_manifest(experiment, make_run(folder), DATASET, {})
    return experiment


def check(experiment: Path, folder: Path, *overrides: str) -> None:
    run = make_run(folder, *overrides)
    check_experiment(run, experiment, exists=True, go_on=True, eval_only=False)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("seed=1", "seed 0 then, 1 now"),
        ("algorithms.ppo.epochs=3", "algorithms.ppo.epochs 2 then, 3 now"),
        ("stop.env_steps=960", "stop.env_steps 96 then, 960 now"),
        ("site.feeder_limit_kw=6", "site.feeder_limit_kw 5.0 then, 6.0 now"),
        ("dataset.seed=8", "dataset.seed 7 then, 8 now"),
        ("validation.minimum_satisfaction=0.5", "validation.minimum_satisfaction 0.88 then, 0.5 now"),
    ],
)
def test_going_on_with_other_settings_is_refused_with_the_difference(
    override: str, named: str, tmp_path: Path
):
    experiment = begun(tmp_path)
    with pytest.raises(ExperimentError) as caught:
        check(experiment, tmp_path, override)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "override",
    ["output_path=elsewhere", "description=other", "evaluation.window.start_day=9", "dataset.path=elsewhere"],
)
def test_where_things_lie_and_what_is_evaluated_may_change(override: str, tmp_path: Path):
    check(begun(tmp_path), tmp_path, override)


def test_many_differences_are_cut_short(tmp_path: Path):
    overrides = [
        f"algorithms.ppo.{key}=0.5" for key in ("gamma", "gae_lambda", "clip_range", "learning_rate")
    ]
    overrides += ["seed=9", "stop.env_steps=1000"]
    with pytest.raises(ExperimentError, match="and more; use those, or start another"):
        check(begun(tmp_path), tmp_path, *overrides)


def checkpoint_on_disk(trial: Path, number: int, env_steps: int) -> Path:
    folder = trial / f"checkpoint_{number:06}"
    folder.mkdir(parents=True)
    (folder / "checkpoint.json").write_text(json.dumps({"env_steps": env_steps}), encoding="utf-8")
    return folder


def test_an_agent_on_disk_is_its_newest_whole_checkpoint(tmp_path: Path):
    run = make_run(tmp_path)
    trial = tmp_path / "x/a2c_12ab_00000"
    checkpoint_on_disk(trial, 9, 48)
    newest = checkpoint_on_disk(trial, 10, 72)
    (trial / "checkpoint_000011").mkdir()  # being written when the process was killed
    (trial / "result.json").write_text('{"time_total_s": 9.5}\n{"time_tot', encoding="utf-8")
    agent = outcome_on_disk(tmp_path / "x", "a2c", run)
    assert agent.checkpoint == str(newest)
    assert (agent.env_steps, agent.status, agent.training_seconds) == (72, "stopped", 9.5)


def test_an_agent_without_a_checkpoint_has_done_nothing(tmp_path: Path):
    (tmp_path / "x/a2c_12ab_00000").mkdir(parents=True)
    agent = outcome_on_disk(tmp_path / "x", "a2c", make_run(tmp_path))
    assert (agent.status, agent.env_steps, agent.checkpoint) == ("stopped", 0, None)


def test_going_on_without_tunes_own_files_is_refused(tmp_path: Path):
    from iquitos_rl.training.experiment import check_tune_files

    with pytest.raises(ExperimentError, match=r"cannot go on, .* are missing; .*--eval-only"):
        check_tune_files(tmp_path)
    (tmp_path / "tuner.pkl").touch()
    (tmp_path / "experiment_state-2026.json").touch()
    check_tune_files(tmp_path)
