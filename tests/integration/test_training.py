"""One run of A2C, SAC and PPO through real Ray and real CityLearn, and everything it leaves behind."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import ray
import torch
from ray import tune

from iquitos_rl.config import load_run
from iquitos_rl.control import TrainedPolicy, load_controller
from iquitos_rl.evaluation import evaluate
from iquitos_rl.site import DatasetError, build_dataset, load_dataset
from iquitos_rl.training import EvaluationError, ExperimentError, restore, train, tuner
from iquitos_rl.training.trainable import SiteTrainable, TrialTask
from tests.integration.conftest import Trained
from tests.training.small_run import RLLIB_WARNING, make_run, write_run

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings(RLLIB_WARNING)]

LADDER = ("no_control", "plug_and_charge", "laxity_first", "best_rule", "oracle")
ALGORITHMS = ("a2c", "sac", "ppo")
KPI_KEYS = {
    "grid_import_kwh",
    "grid_export_kwh",
    "load_kwh",
    "ev_draw_kwh",
    "ev_discharge_kwh",
    "ev_delivered_kwh",
    "bess_charge_kwh",
    "bess_discharge_kwh",
    "bess_stored_change_kwh",
    "storage_losses_kwh",
    "pv_generation_kwh",
    "pv_used_kwh",
    "solar_utilisation",
    "ev_satisfaction",
    "ev_departures",
    "unserved_energy_kwh",
    "co2_grid_kg",
    "co2_avoided_solar_kg",
    "co2_net_kg",
    "co2_unserved_kg",
    "cost_usd",
    "peak_import_kw",
    "mean_daily_peak_kw",
    "score",
    "score_components",
    "controller",
    "engine",
    "split",
    "year",
    "dataset_fingerprint",
}
"""Those of DESIGN."""


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def result_of(trained: Trained, controller: str) -> dict[str, Any]:
    return dict(read(trained.folder / f"outputs/small/result_{controller}.json"))


def checkpoints(trial: Path) -> list[Path]:
    return sorted(trial.glob("checkpoint_*"))


def test_every_agent_reaches_its_budget(trained: Trained):
    assert [agent.algorithm for agent in trained.outcome.agents] == list(ALGORITHMS)
    for agent in trained.outcome.agents:
        assert (agent.status, agent.env_steps, agent.budget, agent.error) == ("finished", 96, 96, None)
        assert agent.training_seconds > 0
    assert trained.outcome.finished


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_checkpoints_follow_each_multiple_and_the_newest_are_kept(trained: Trained, algorithm: str):
    # iterations end at 24, 48, 72, 96; multiples of 36 are passed at 48 and met at 72; 96 is the end
    kept = checkpoints(trained.trial(algorithm))
    assert [folder.name for folder in kept] == ["checkpoint_000001", "checkpoint_000002"]
    assert [read(folder / "checkpoint.json")["env_steps"] for folder in kept] == [72, 96]
    asked = [
        (row["env_steps"], row["should_checkpoint"])
        for row in map(json.loads, (trained.trial(algorithm) / "result.json").read_text().splitlines())
    ]
    assert asked == [(24, False), (48, True), (72, True), (96, True)]
    agent = next(agent for agent in trained.outcome.agents if agent.algorithm == algorithm)
    assert agent.checkpoint == str(kept[-1])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_checkpoint_carries_the_best_policy_so_far(trained: Trained, algorithm: str):
    for folder in checkpoints(trained.trial(algorithm)):
        description = read(folder / "checkpoint.json")
        best = read(folder / "best_policy/policy.json")["origin"]
        latest = read(folder / "policy/policy.json")["origin"]
        assert best["validation"] == description["best_validation"]
        assert best["env_steps"] == best["validation"]["env_steps"] in (48, 96)
        assert latest["env_steps"] == description["env_steps"]
        assert latest["dataset_fingerprint"] == load_dataset(trained.run.dataset_path).fingerprint
        controller = load_controller(folder)
        assert controller.name == algorithm


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_best_policys_validation_can_be_repeated(trained: Trained, algorithm: str):
    controller = load_controller(trained.trial(algorithm))
    assert isinstance(controller, TrainedPolicy)
    dataset = load_dataset(trained.run.dataset_path)
    options: dict[str, Any] = {"split": "validation", "weights": trained.run.reward}
    kpis = [evaluate(controller, dataset, w, **options).kpis for w in trained.run.validation.windows]
    validation = controller.policy.origin["validation"]
    departures = sum(k["ev_departures"] for k in kpis)
    satisfied = sum(k["ev_departures"] * k["ev_satisfaction"] for k in kpis)
    assert len(kpis) == 2
    assert validation["score"] == pytest.approx(sum(k["score"] for k in kpis) / 2, rel=1e-12)
    assert validation["satisfaction"] == pytest.approx(satisfied / departures, rel=1e-12)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_results_are_logged_for_people_programs_and_tensorboard(trained: Trained, algorithm: str):
    trial = trained.trial(algorithm)
    lines = [json.loads(line) for line in (trial / "result.json").read_text().splitlines()]
    assert [line["env_steps"] for line in lines] == [24, 48, 72, 96]
    assert [line["timesteps_total"] for line in lines] == [24, 48, 72, 96]
    assert [line["done"] for line in lines] == [False, False, False, True]
    assert np.isnan(float(lines[0]["validation_score"]))
    assert np.isfinite(lines[-1]["validation_score"])
    assert np.isfinite(lines[-1]["policy_loss"])
    assert np.isfinite(lines[-1]["episode_return_mean"])
    with (trial / "progress.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["env_steps"]) for row in rows] == [24, 48, 72, 96]
    for column in ("policy_loss", "entropy", "validation_score", "validation_satisfaction"):
        assert np.isfinite(float(rows[-1][column])), column
    assert list(trial.glob("events.out.tfevents.*"))


def test_the_manifest_is_complete(trained: Trained):
    manifest = read(trained.outcome.experiment / "manifest.json")
    dataset = load_dataset(trained.run.dataset_path)
    assert manifest["experiment"] == "small"
    assert manifest["dataset"] == {
        "path": str(dataset.path),
        "seed": 7,
        "fingerprint": dataset.fingerprint,
    }
    assert manifest["seed"] == 0
    assert manifest["config"] == trained.run.model_dump(mode="json")
    assert manifest["versions"]["ray"] == ray.__version__
    assert manifest["versions"]["citylearn"] == "3.0.2"
    # Ray here has 2 CPUs
    assert manifest["resources"] == {"per_trial": [{"CPU": 0.66}], "cpus": 2.0}


def test_the_results_have_every_kpi(trained: Trained):
    for controller in ("no_control", *ALGORITHMS):
        result = result_of(trained, controller)
        assert result.keys() >= KPI_KEYS
        assert result["controller"] == controller
        assert (result["split"], result["year"]) == ("test", 0)
        assert result["window"] == {"start_step": 48, "steps": 48}
    assert result_of(trained, "no_control")["score"] == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_result_says_which_policy_it_is_of(trained: Trained, algorithm: str):
    result = result_of(trained, algorithm)
    agent = next(agent for agent in trained.outcome.agents if agent.algorithm == algorithm)
    assert result["experiment"] == "small"
    assert result["demonstration"] is True
    assert result["training"]["checkpoint"] == agent.checkpoint
    assert result["policy"] == f"{agent.checkpoint}/best_policy"
    assert result["policy_env_steps"] == result["validation"]["env_steps"]


def test_time_series_and_kpis_agree(trained: Trained):
    for controller in ("no_control", *ALGORITHMS):
        hours = pd.read_parquet(trained.folder / f"outputs/small/timeseries_{controller}.parquet")
        result = result_of(trained, controller)
        assert hours["hour_of_year"].tolist() == list(range(48, 96))
        for name in ("grid_import_kwh", "ev_delivered_kwh", "pv_generation_kwh"):
            assert hours[name].sum() == pytest.approx(result[name])


def test_comparison_and_summary_agree_with_the_results(trained: Trained):
    outputs = trained.folder / "outputs/small"
    rows = read(outputs / "comparison.json")
    names = [row["controller"] for row in rows]
    assert names[:2] == ["no_control", "plug_and_charge"]
    assert names[-1] == "oracle"
    assert sorted(names) == sorted([*LADDER, *ALGORITHMS])
    base = rows[0]["grid_import_kwh"]
    for row in rows:
        assert row["score"] == result_of(trained, row["controller"])["score"]
        assert row["import_change_share"] == pytest.approx(row["grid_import_kwh"] / base - 1)
    with (outputs / "comparison.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [float(row["score"]) for row in table] == [row["score"] for row in rows]

    summary = read(outputs / "summary.json")
    assert summary == trained.outcome.summary
    assert [agent["algorithm"] for agent in summary["agents"]] == list(ALGORITHMS)
    validations = {name: result_of(trained, name)["validation"] for name in ALGORITHMS}
    serving = {name: v["score"] for name, v in validations.items() if v["meets_service"]}
    assert summary["best_agent"] == (min(serving, key=serving.__getitem__) if serving else None)
    for name in summary["results"]:
        assert (outputs / name).is_file()
    page = (outputs / "report.html").read_text(encoding="utf-8")
    assert all(name.upper() in page for name in ALGORITHMS)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_learning_curve_is_kept_beside_the_result(trained: Trained, algorithm: str):
    curve = pd.read_parquet(trained.folder / f"outputs/small/learning_{algorithm}.parquet")
    assert curve["env_steps"].is_monotonic_increasing
    last = curve.iloc[-1]
    assert 0 < last["env_steps"] <= 96 + 24
    validations = result_of(trained, algorithm)["validation"]
    assert validations["score"] in curve["validation_score"].to_numpy()


def test_the_optimum_and_its_frontier_stand_beside_the_agents(trained: Trained):
    scores = {row["controller"]: row["score"] for row in trained.outcome.comparison}
    assert min(scores, key=scores.__getitem__) == "oracle"
    assert (trained.folder / "outputs/small/frontier.json").is_file()


def test_starting_again_without_resume_is_refused(trained: Trained):
    before = sorted(trained.outcome.experiment.rglob("*"))
    with pytest.raises(ExperimentError, match="exists already; go on with it: --resume"):
        train(trained.run, silent=True)
    assert sorted(trained.outcome.experiment.rglob("*")) == before


def test_resuming_with_other_settings_is_refused_with_the_difference(trained: Trained):
    run = load_run(trained.folder / "run.yaml", ["algorithms.ppo.epochs=3"])
    with pytest.raises(ExperimentError, match=r"algorithms\.ppo\.epochs 2 then, 3 now"):
        train(run, resume=True, silent=True)


def test_resuming_on_other_data_is_refused(trained: Trained, tmp_path: Path):
    other = build_dataset(
        trained.run.site, tmp_path / "data", 7, table_format="csv"
    )  # other files, same site
    run = load_run(trained.folder / "run.yaml", [f"dataset.path={other.path}"])
    with pytest.raises(ExperimentError, match="began with other data: fingerprint"):
        train(run, resume=True, silent=True)


def test_eval_only_gives_the_same_kpis(trained: Trained, tmp_path: Path):
    run = load_run(trained.folder / "run.yaml", [f"output_path={tmp_path}"])
    outcome = train(run, eval_only=True, silent=True)
    assert outcome.finished
    for controller in ("no_control", *ALGORITHMS):
        again = read(tmp_path / f"small/result_{controller}.json")
        first = result_of(trained, controller)
        again.pop("training", None)
        first.pop("training", None)
        assert again == first
    assert outcome.summary["best_agent"] == trained.outcome.summary["best_agent"]


def test_eval_only_takes_some_of_the_agents(trained: Trained, tmp_path: Path):
    run = load_run(trained.folder / "run.yaml", [f"output_path={tmp_path}"], ["ppo"])
    outcome = train(run, eval_only=True, silent=True)
    assert [row["controller"] for row in outcome.comparison] == [
        "no_control",
        "plug_and_charge",
        "laxity_first",
        "best_rule",
        "ppo",
        "oracle",
    ]


def test_a_failed_evaluation_does_not_hide_that_training_ended(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*args: Any, **kwargs: Any) -> None:
        raise ValueError("no such luck")

    monkeypatch.setattr("iquitos_rl.training.tuner.evaluate_agents", fail)
    run = load_run(trained.folder / "run.yaml", [f"output_path={tmp_path}"])
    with pytest.raises(EvaluationError, match=r"no such luck; repeat it with --eval-only"):
        train(run, eval_only=True, silent=True)
    summary = read(tmp_path / "small/summary.json")
    assert [agent["status"] for agent in summary["agents"]] == ["finished"] * 3


def test_remote_samplers_fit_into_what_a_trial_reserves(small_ray: None, tmp_path: Path):
    run = make_run(tmp_path, "resources.env_runners=1", "stop.env_steps=24", algorithms=["ppo"])
    outcome = train(run, silent=True)
    assert outcome.finished
    assert read(outcome.experiment / "manifest.json")["resources"]["per_trial"] == [{"CPU": 1.0}] * 2


def test_eval_only_needs_an_experiment(tmp_path: Path):
    with pytest.raises(ExperimentError, match="no experiment here to evaluate"):
        train(make_run(tmp_path), eval_only=True, silent=True)
    assert not (tmp_path / "datasets").exists()


def test_restoring_a_folder_that_is_no_experiment_is_refused(tmp_path: Path):
    with pytest.raises(ExperimentError, match="not an experiment"):
        restore(tmp_path, silent=True)


def trainable(trained: Trained, algorithm: str, folder: Path) -> SiteTrainable:
    """A trial of the run in this process, as Tune would make it in an actor."""
    from ray.train._internal.storage import StorageContext

    dataset = load_dataset(trained.run.dataset_path)
    task = TrialTask(trained.run.model_dump_json(), str(dataset.path), dataset.fingerprint)
    storage = StorageContext(str(folder), experiment_dir_name="here", trial_dir_name=algorithm)
    bound = tune.with_parameters(SiteTrainable, task=task)
    return bound({"algorithm": algorithm}, storage=storage)


def assert_same_weights(first: Any, second: Any) -> None:
    assert first.keys() == second.keys()
    for name in first:
        assert np.array_equal(np.asarray(first[name]), np.asarray(second[name])), name


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_trial_restored_from_a_checkpoint_is_the_trial_that_wrote_it(
    trained: Trained, algorithm: str, tmp_path: Path
):
    before, checkpoint = checkpoints(trained.trial(algorithm))[0], tmp_path / "again"
    restored = trainable(trained, algorithm, tmp_path)
    try:
        restored.load_checkpoint(str(before))
        stored = torch.load(before / "policy/policy.pt", weights_only=True)
        assert_same_weights(restored._state(), stored)
        assert restored.env_steps == 72
        description = read(before / "checkpoint.json")
        assert restored._best is not None
        assert restored._best.validation == description["best_validation"]
        assert_same_weights(
            restored._best.state, torch.load(before / "best_policy/policy.pt", weights_only=True)
        )

        # its sampler does not begin with the windows and the noise of the start of the run again
        seed = restored.algorithm.env_runner._seed
        assert seed not in (None, restored.run_config.seed)

        # saved at once, it is the same checkpoint again
        checkpoint.mkdir()
        restored.save_checkpoint(str(checkpoint))
        assert read(checkpoint / "checkpoint.json") == description
        for policy in ("policy", "best_policy"):
            assert read(checkpoint / policy / "policy.json") == read(before / policy / "policy.json")

        # and it goes on: the next iteration trains, ends at the budget, and validates
        result = restored.step()
        assert result["env_steps"] == 96
        assert result["done"] is True
        assert result["should_checkpoint"] is True
        assert np.isfinite(result["validation_score"])
        after = restored._state()
        assert any(not np.array_equal(np.asarray(after[n]), np.asarray(stored[n])) for n in after)
    finally:
        restored.cleanup()


def test_a_trial_on_other_data_than_the_runs_fails_with_the_reason_and_does_not_hang(
    small_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """As on a node whose copy of the dataset is another: here it changes between the check and the trial."""
    from iquitos_rl.cli import main

    def then_change(run: Any, dataset: Any) -> dict[str, Any]:
        description = dataset.path / "dataset.json"
        description.write_text(description.read_text().replace(dataset.fingerprint, "e" * 64))
        return {}

    monkeypatch.setattr(tuner, "training_env_config", then_change)
    monkeypatch.setattr(tuner, "MAX_FAILURES", 0)  # each attempt takes seconds
    write_run(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        main(["train", "--run", str(tmp_path / "run.yaml"), "--algo", "a2c", "--json"])
    assert exit_.value.code == 1
    captured = capsys.readouterr()
    summary = json.loads(captured.out)
    (agent,) = summary["agents"]
    assert agent["status"] == "failed"
    assert agent["checkpoint"] is None
    assert "fingerprint eeeeeeeeeeee on this node" in agent["error"]
    assert summary["best_agent"] is None
    assert summary["results"] == [f"result_{name}.json" for name in LADDER]
    assert "a2c failed" in captured.err
    assert "Go on with:" in captured.err


def test_a_dataset_of_another_seed_is_refused(trained: Trained, tmp_path: Path):
    path = trained.run.dataset_path
    run = make_run(tmp_path, f"dataset.path={path}", "dataset.seed=8")
    with pytest.raises(DatasetError, match="made from another site file or seed"):
        train(run, silent=True)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("resources.envs_per_runner=5", r"algorithms\.a2c: n_steps = 24: must be a multiple"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_before_anything_is_written(
    override: str, reason: str, tmp_path: Path
):
    run = make_run(tmp_path, override)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=reason):
        train(run, silent=True)
    assert sorted(tmp_path.iterdir()) == before


def test_resources_that_are_not_there_are_refused_before_the_experiment_begins(
    small_ray: None, trained: Trained, tmp_path: Path
):
    run = make_run(tmp_path, f"dataset.path={trained.run.dataset_path}", "resources.gpus_per_trial=1")
    with pytest.raises(ValueError, match=r"resources\.gpus_per_trial: a trial needs 1 GPUs"):
        train(run, silent=True)
    assert not (tmp_path / "runs").exists()


def test_an_experiment_can_be_moved_and_restored_from_its_folder(trained: Trained, tmp_path: Path):
    """Everything is finished, so restoring trains nothing; it evaluates again."""
    moved = tmp_path / "elsewhere"
    shutil.copytree(trained.outcome.experiment, moved)
    outcome = restore(moved, silent=True)
    assert outcome.finished
    assert [agent.env_steps for agent in outcome.agents] == [96, 96, 96]
    assert all(str(moved) in str(agent.checkpoint) for agent in outcome.agents)
    shutil.rmtree(outcome.outputs, ignore_errors=True)
