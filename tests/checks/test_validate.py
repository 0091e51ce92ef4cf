"""All twenty checks from the command line: table, JSON, exit codes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import ray

from iquitos_rl.cli import main
from iquitos_rl.site import Dataset
from tests.training.small_run import write_site

PHASES = {
    "imports and versions": 4,
    "configuration": 3,
    "dataset": 3,
    "algorithms": 3,
    "checkpoints": 6,
    "devices": 1,
}
"""How many checks each has: those of DESIGN."""


@pytest.fixture
def validate(capsys: pytest.CaptureFixture[str], run_file: Path):
    """Runs the command on the small site; returns exit code, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_:
            main(["validate", "--run", str(run_file), *map(str, arguments)])
        captured = capsys.readouterr()
        return int(exit_.value.code or 0), captured.out, captured.err

    return call


def outcomes(checks: list[dict[str, Any]]) -> dict[str, str]:
    return {check["id"]: check["outcome"] for check in checks}


@pytest.mark.integration
@pytest.mark.slow
def test_all_twenty_pass_on_a_sound_site(validate, small_dataset: Dataset, tmp_path: Path):
    before = sorted(tmp_path.rglob("*"))
    joined = ray.is_initialized()  # the tests' own Ray, if one of them has started it
    code, out, err = validate("--json")
    report = json.loads(out)
    assert {c["id"]: c["detail"] for c in report["checks"] if c["outcome"] != "passed"} == {}
    assert code == report["exit_code"] == 0
    assert report["counts"] == {"total": 20, "passed": 20, "warning": 0, "failed": 0, "skipped": 0}
    assert [check["number"] for check in report["checks"]] == list(range(1, 21))
    assert Counter(check["phase"] for check in report["checks"]) == PHASES
    assert report["dataset"] == str(small_dataset.path)
    assert "20 of 20: devices" in err
    assert sorted(tmp_path.rglob("*")) == before
    assert ray.is_initialized() == joined


def test_fast_skips_the_six_that_start_ray_and_says_so(validate):
    code, out, _ = validate("--fast", "--json")
    report = json.loads(out)
    skipped = [name for name, outcome in outcomes(report["checks"]).items() if outcome == "skipped"]
    assert skipped == [
        *("train_a2c", "train_sac", "train_ppo"),
        *("round_trip_a2c", "round_trip_sac", "round_trip_ppo"),
    ]
    assert report["counts"] | {"passed": 14, "skipped": 6} == report["counts"]
    assert (code, report["fast"]) == (0, True)
    code, out, _ = validate("--fast")
    assert code == 0
    assert "14 of 20 passed, 6 skipped (6 by --fast: they start Ray)" in out
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line[:3].strip().isdigit() for line in lines[:-1]) == 20
    for phase in PHASES:
        assert phase.upper() in out


def test_a_failure_exits_2_with_what_to_do(validate, run_file: Path):
    write_site(run_file.parent, carbon_intensity_kg_per_kwh=0.21)
    code, out, _ = validate("--fast")
    assert code == 2
    assert "6 carbon intensity: failed: site small_site: carbon_intensity_kg_per_kwh is 0.21" in out
    assert "   set carbon_intensity_kg_per_kwh: 0.4521 in the site file" in out
    assert "2 failed" in out  # and the data is no longer that of the site file


def test_a_warning_exits_1(validate, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("iquitos_rl.env.TESTED_CITYLEARN", "3.0.1")
    code, out, _ = validate("--fast")
    assert code == 1
    assert "3 CityLearn: warning: citylearn 3.0.2, tested is 3.0.1" in out
    assert "13 of 20 passed, 1 with a warning, 6 skipped" in out
    report = json.loads(validate("--fast", "--json")[1])
    assert report["exit_code"] == 1
    assert "warnings" in report["meaning"]


def test_a_run_that_cannot_be_read_leaves_the_machine_to_check(validate, run_file: Path):
    write_site(run_file.parent, feeder_limit_kw="much")
    code, out, _ = validate("--json")
    report = json.loads(out)
    found = outcomes(report["checks"])
    assert code == 2
    assert {name for name, outcome in found.items() if outcome == "passed"} == {
        *("python", "ray", "citylearn", "libraries", "devices")
    }
    assert [name for name, outcome in found.items() if outcome == "failed"] == ["weights"]
    assert Counter(found.values())["skipped"] == 14


@pytest.mark.parametrize("mistake", [{}, {"carbon_intensity_kg_per_kwh": 0.3}])
def test_a_dataset_that_was_named_or_would_be_wrong_is_not_built(
    validate, run_file: Path, tmp_path: Path, mistake: dict[str, float]
):
    missing = tmp_path / "missing: no 1"
    if mistake:
        write_site(run_file.parent, **mistake)
        arguments = ("--set", f"dataset.path={json.dumps(str(missing))}")
    else:
        arguments = ("--dataset", str(missing))
    code, out, _ = validate("--fast", "--json", *arguments)
    found = {check["id"]: check for check in json.loads(out)["checks"]}
    assert code == 2
    assert found["sockets"]["outcome"] == "failed"
    assert found["sockets"]["detail"] == f"{missing}: no dataset here"
    assert "iquitos-rl dataset build --out" in found["sockets"]["remedy"]
    assert {found["bess"]["outcome"], found["action"]["outcome"]} == {"skipped"}
    assert not missing.exists()


def test_a_missing_dataset_is_built_and_said_so(validate, tmp_path: Path):
    path = tmp_path / "new/small_site"
    code, out, err = validate("--fast", "--json", "--set", f"dataset.path={path}")
    assert code == 0
    assert json.loads(out)["counts"]["passed"] == 14
    assert f"Building the dataset of small_site in {path}" in err
    assert (path / "dataset.json").is_file()
