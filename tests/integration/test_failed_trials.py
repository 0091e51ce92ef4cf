"""Trials that cannot go on: they end with the reason, and nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from iquitos_rl.config import load_run
from iquitos_rl.training import train, tuner
from tests.integration.conftest import ALGORITHMS, LADDER, Trained, checkpoints, trainable
from tests.training.small_run import RLLIB_WARNING, write_run

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings(RLLIB_WARNING)]


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


def test_numbers_that_are_not_finite_end_the_trial_at_once_with_the_reason(
    small_ray: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Not after two more attempts, which would come to the same end; the other agent is trained."""
    outcome = train(load_run(write_run(tmp_path), ["algorithms.a2c.learning_rate=1e30"], ["a2c", "ppo"]))
    agents = {agent.algorithm: agent for agent in outcome.agents}
    assert (agents["a2c"].status, agents["ppo"].status) == ("failed", "finished")
    assert agents["a2c"].error is not None
    assert "not finite" in agents["a2c"].error
    assert len((Path(agents["a2c"].trial) / "result.json").read_text().splitlines()) == 1
    shown = "".join(capsys.readouterr())
    assert "a2c: failed" in shown
    assert "a2c failed: A2C: the gradient of update 1" in shown


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_policy_that_is_not_finite_ends_the_trial_without_a_checkpoint(
    trained: Trained, algorithm: str, tmp_path: Path
):
    trial = trainable(trained, algorithm, tmp_path)
    try:
        trial.load_checkpoint(str(checkpoints(trained.trial(algorithm))[0]))
        with torch.no_grad():
            for parameter in trial.algorithm.env_runner.module.parameters():
                parameter.fill_(float("nan"))
        result = trial.step()
        assert "actions are not finite" in result["failure"]
        assert result["done"] is True
        assert "should_checkpoint" not in result
        assert result["env_steps"] == 72
        assert np.isfinite(result["validation_score"])
    finally:
        trial.cleanup()
