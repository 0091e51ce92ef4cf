"""Where checkpoints go: what cannot be written is found for each algorithm, and nothing is left behind."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from iquitos_rl.checks import Outcome
from iquitos_rl.checks.folders import check_folder
from iquitos_rl.config import RunConfig
from tests.checks.conftest import made

ALGORITHMS = ("a2c", "sac", "ppo")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_folder_that_can_be_written_passes_and_is_gone_again(
    run: RunConfig, tmp_path: Path, algorithm: str
):
    before = sorted(tmp_path.rglob("*"))
    storage = run.model_copy(update={"storage_path": str(tmp_path / "new/runs")})
    result = made(lambda: check_folder(storage, algorithm))
    assert result.outcome is Outcome.passed
    assert "GB free" in result.detail
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_folder_below_a_file_fails(run: RunConfig, tmp_path: Path, algorithm: str):
    (tmp_path / "taken").write_text("a file")
    storage = run.model_copy(update={"storage_path": str(tmp_path / "taken/runs")})
    result = made(lambda: check_folder(storage, algorithm))
    assert result.outcome is Outcome.failed
    assert f"{tmp_path}/taken/runs/small/{algorithm}" in result.detail
    assert "cannot write there (Not a directory)" in result.detail
    assert "--set storage_path=" in result.remedy


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_trial_of_an_experiment_that_has_begun_fails_alone(run: RunConfig, tmp_path: Path, algorithm: str):
    experiment = Path(run.storage_path) / run.name
    for name in ALGORITHMS:
        (experiment / f"{name}_0001").mkdir(parents=True)
    (experiment / f"{algorithm}_0001").rmdir()
    # Not even root can write into /proc.
    (experiment / f"{algorithm}_0001").symlink_to("/proc")
    before = sorted(tmp_path.rglob("*"))
    outcomes = {name: made(partial(check_folder, run, name)).outcome for name in ALGORITHMS}
    assert outcomes == dict.fromkeys(ALGORITHMS, Outcome.passed) | {algorithm: Outcome.failed}
    assert sorted(tmp_path.rglob("*")) == before


def test_a_disk_that_gives_back_something_else_fails(run: RunConfig, monkeypatch: pytest.MonkeyPatch):
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path)[:-1])
    result = made(lambda: check_folder(run, "ppo"))
    assert result.outcome is Outcome.failed
    assert "what was written is not what is read" in result.detail
    assert not Path(run.storage_path).exists()


def test_an_algorithm_that_the_run_does_not_train_is_skipped(run: RunConfig):
    alone = run.model_copy(update={"algorithms": run.algorithms.model_copy(update={"sac": None})})
    assert made(lambda: check_folder(alone, "sac")).outcome is Outcome.skipped
