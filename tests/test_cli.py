"""The command line: help everywhere, one JSON document on stdout, and bad input refused in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from iquitos_rl import __version__
from iquitos_rl.cli import main
from tests.training.policies import make_policy
from tests.training.small_run import small_dataset, write_run, write_site

__all__ = ["small_dataset"]

COMMANDS: tuple[list[str], ...] = (
    [],
    ["dataset"],
    ["dataset", "build"],
    ["dataset", "validate"],
    ["dataset", "describe"],
    ["train"],
    ["restore"],
    ["evaluate"],
    ["compare"],
    ["bench"],
    ["bench", "engine"],
    ["bench", "train"],
    ["validate"],
    ["version"],
)


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str


Cli = Callable[..., Done]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Runs a command in this process, in an empty folder of its own."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def run(*arguments: object) -> Done:
        with pytest.raises(SystemExit) as exit_:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        code = exit_.value.code
        assert code is None or isinstance(code, int)
        return Done(code or 0, captured.out, captured.err)

    return run


def written(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: " ".join(words) or "iquitos-rl")
def test_every_command_has_help(command: list[str], cli: Cli):
    done = cli(*command, "--help")
    assert done.code == 0
    assert "Usage:" in done.out
    assert len(done.out.splitlines()) > 3
    assert done.err == ""


def test_the_version(cli: Cli):
    assert cli("version") == Done(0, f"{__version__}\n", "")


BAD_INPUTS: dict[str, list[str]] = {
    "no such command": ["trian"],
    "no such option": ["train", "--budget", "7"],
    "run file missing": ["train", "--run", "nowhere.yaml"],
    "run file is a folder": ["train", "--run", "."],
    "algorithm unknown": ["train", "--run", "RUN", "--algo", "dqn"],
    "algorithm empty": ["train", "--run", "RUN", "--algo", ""],
    "two budgets": ["train", "--run", "RUN", "--env-steps", "9", "--episodes", "1"],
    "budget of zero": ["train", "--run", "RUN", "--env-steps", "0"],
    "budget no number": ["train", "--run", "RUN", "--env-steps", "many"],
    "set without value": ["train", "--run", "RUN", "--set", "seed"],
    "set unknown key": ["train", "--run", "RUN", "--set", "sede=1"],
    "set out of range": ["train", "--run", "RUN", "--set", "seed=-1"],
    "eval-only of nothing": ["train", "--run", "RUN", "--eval-only"],
    "environments do not divide": ["train", "--run", "RUN", "--set", "resources.envs_per_runner=5"],
    "no cluster there": ["train", "--run", "RUN", "--address", "127.0.0.1:1"],
    "no address": ["train", "--run", "RUN", "--address", "headnode"],
    "port no number": ["train", "--run", "RUN", "--address", "127.0.0.1:ray"],
    "no experiment": ["restore", "runs/nothing"],
    "controller unknown": ["evaluate", "laxity_frist", "--dataset", "DATASET"],
    "not a checkpoint": ["evaluate", ".", "--dataset", "DATASET"],
    "policy of another site": ["evaluate", "OTHER_POLICY", "--dataset", "DATASET"],
    "dataset missing": ["evaluate", "no_control", "--dataset", "nowhere"],
    "split unknown": ["evaluate", "no_control", "--dataset", "DATASET", "--split", "holdout"],
    "year not there": ["evaluate", "no_control", "--dataset", "DATASET", "--year", "3"],
    "year negative": ["evaluate", "no_control", "--dataset", "DATASET", "--year", "-1"],
    "engine unknown": ["evaluate", "no_control", "--dataset", "DATASET", "--engine", "abacus"],
    "window beyond the year": [
        *("evaluate", "no_control", "--dataset", "DATASET"),
        *("--start-day", "364", "--steps", "48"),
    ],
    "window starts on day 400": ["evaluate", "no_control", "--dataset", "DATASET", "--start-day", "400"],
    "window of no hours": ["evaluate", "no_control", "--dataset", "DATASET", "--steps", "0"],
    "reward file missing": ["evaluate", "no_control", "--dataset", "DATASET", "--reward", "nowhere.yaml"],
    "nothing to compare": ["compare", "nothing"],
    "site file missing": ["dataset", "build", "--site", "nowhere.yaml"],
    "site set unknown": ["dataset", "build", "--site", "SITE", "--set", "feeder_kw=1"],
    "seed negative": ["dataset", "build", "--site", "SITE", "--seed", "-1"],
    "seed no number": ["dataset", "build", "--site", "SITE", "--seed", "x"],
    "out is something else": ["dataset", "build", "--site", "SITE", "--out", "OCCUPIED"],
    "nothing to validate": ["validate", "--run", "nowhere.yaml"],
    "validate with set unknown": ["validate", "--run", "RUN", "--set", "sede=1"],
    "nothing to describe": ["dataset", "describe", "nowhere"],
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, small_dataset: Any) -> dict[str, str]:
    """What the capital words in BAD_INPUTS stand for."""
    folder = tmp_path_factory.mktemp("places")
    make_policy(folder / "policy", sockets=6)
    (folder / "occupied").mkdir()
    (folder / "occupied/thesis.txt").write_text("years of work", encoding="utf-8")
    run = write_run(
        folder, dataset={"path": "datasets/small_site"}, storage_path="runs", output_path="outputs"
    )
    return {
        "RUN": str(run),
        "SITE": str(folder / "site.yaml"),
        "DATASET": str(small_dataset.path),
        "OTHER_POLICY": str(folder / "policy"),
        "OCCUPIED": str(folder / "occupied"),
    }


@pytest.mark.parametrize("arguments", BAD_INPUTS.values(), ids=BAD_INPUTS.keys())
def test_bad_input_is_refused_in_one_line_and_changes_nothing(
    arguments: list[str], places: dict[str, str], cli: Cli, tmp_path: Path
):
    elsewhere = written(Path(places["SITE"]).parent)
    done = cli(*(places.get(argument, argument) for argument in arguments))
    assert done.code == 2
    assert done.out == ""
    assert "Traceback" not in done.err
    lines = done.err.splitlines()
    if lines[0].startswith("Usage:"):  # the option parser's own
        assert len(lines) <= 4
        assert lines[-1].startswith("Error: ")
    else:
        assert [line for line in lines if not line.startswith("Evaluating ")] == [lines[-1]], done.err
        assert lines[-1].startswith("error: ")
    assert written(tmp_path / "cwd") == []
    assert written(Path(places["SITE"]).parent) == elsewhere


@pytest.mark.parametrize("place", [0, 2])
def test_debug_shows_the_traceback_wherever_it_stands(place: int, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["evaluate", "laxity_frist"]
    arguments.insert(place, "--debug")
    with pytest.raises(ValueError, match="laxity_frist"):
        main(arguments)


def test_a_mistake_in_a_file_is_told_with_file_key_value_and_what_is_allowed(cli: Cli, tmp_path: Path):
    site = write_site(tmp_path, feeder_limit_kw="much")
    done = cli("dataset", "build", "--site", site)
    assert done.code == 2
    for part in ("site.yaml", "feeder_limit_kw", "much"):
        assert part in done.err


def one_json_document(done: Done) -> Any:
    """Stdout holds exactly one; json.loads refuses anything before or after it."""
    return json.loads(done.out)


def test_a_dataset_from_nothing_to_its_description(cli: Cli, tmp_path: Path):
    site = write_site(tmp_path)
    done = cli("dataset", "build", "--site", site, "--seed", 5)
    assert done.code == 0
    folder = tmp_path / "cwd/datasets/small_site"
    assert "1 train" in done.out
    assert "fingerprint" in done.out
    assert "test" in done.err  # progress
    assert (folder / "dataset.json").is_file()

    described = cli("dataset", "describe", folder)
    assert described.code == 0
    assert max(len(line) for line in described.out.splitlines() if str(folder) not in line) <= 80
    for part in ("small_site", "seed 5", "4 sockets", "validation 0", "import", "faction"):
        assert part in described.out

    validated = cli("dataset", "validate", folder)
    assert validated.code in (0, 1)  # warnings are allowed: the site is tiny
    assert "0 errors" in validated.out

    # the same again is up to date: nothing is made, nothing changes
    before = {path: path.stat().st_mtime_ns for path in written(folder)}
    again = cli("dataset", "build", "--site", site, "--seed", 5)
    assert again.code == 0
    assert {path: path.stat().st_mtime_ns for path in written(folder)} == before
    assert "up to date" in again.out + again.err

    # another seed is another dataset: only with --force
    refused = cli("dataset", "build", "--site", site, "--seed", 6)
    assert refused.code == 2
    assert "--force" in refused.err
    assert {path: path.stat().st_mtime_ns for path in written(folder)} == before
    replaced = cli("dataset", "build", "--site", site, "--seed", 6, "--force", "--json")
    assert replaced.code == 0
    built = one_json_document(replaced)
    assert (built["path"], built["seed"]) == (str(folder), 6)
    assert built["fingerprint"] not in done.out


def test_set_changes_the_site_and_csv_the_tables(cli: Cli, tmp_path: Path):
    site = write_site(tmp_path)
    done = cli("dataset", "build", "--site", site, "--out", "here", "--csv", "--set", "feeder_limit_kw=7")
    assert done.code == 0
    described = one_json_document(cli("dataset", "describe", "here", "--json"))
    assert described["feeder_limit_kw"] == 7
    assert list((tmp_path / "cwd/here/test/year_0").glob("*.csv"))


def test_validating_what_is_not_there_reports_one_error(cli: Cli):
    done = cli("dataset", "validate", "nowhere")
    assert done.code == 2
    assert "no dataset here" in done.out
    assert "1 errors" in done.out
    assert len(one_json_document(cli("dataset", "validate", "nowhere", "--json"))["findings"]) == 1


def test_a_damaged_dataset_is_an_error_of_the_validation(cli: Cli, tmp_path: Path):
    site = write_site(tmp_path)
    cli("dataset", "build", "--site", site, "--out", "here")
    (tmp_path / "cwd/here/test/year_0/schema.json").write_text("{}", encoding="utf-8")
    done = cli("dataset", "validate", "here", "--json")
    assert done.code == 2
    findings = one_json_document(done)["findings"]
    assert any("schema.json" in json.dumps(finding) for finding in findings)


@pytest.mark.integration
def test_evaluating_prints_one_result_and_writes_it_where_asked(cli: Cli, small_dataset, tmp_path: Path):
    common = ("evaluate", "no_control", "--dataset", small_dataset.path, "--steps", 24, "--start-day", 2)
    done = cli(*common, "--json", "--out", "results")
    assert done.code == 0
    result = one_json_document(done)
    assert isinstance(result, dict)
    assert result["score"] == pytest.approx(1.0, abs=1e-5)
    assert result["window"] == {"start_step": 48, "steps": 24}
    assert "Written to" in done.err
    assert json.loads((tmp_path / "cwd/results/result_no_control.json").read_text()) == result

    table = cli(*common)
    assert table.code == 0
    assert max(len(line) for line in table.out.splitlines()) <= 80
    assert "ev_satisfaction" in table.out
    assert "grid_import_kwh" in table.out


@pytest.mark.integration
def test_results_in_a_folder_are_compared(cli: Cli, small_dataset, tmp_path: Path):
    make_policy(tmp_path / "policy", "ppo")
    for controller in ("no_control", tmp_path / "policy"):
        common = ("--dataset", small_dataset.path, "--steps", 24, "--out", "outputs/some")
        assert cli("evaluate", controller, *common).code == 0
    for name in ("some", "outputs/some"):
        rows = one_json_document(cli("compare", name, "--json"))
        assert [row["controller"] for row in rows] == ["no_control", "ppo"]
    done = cli("compare", "some")
    assert done.code == 0
    assert max(len(line) for line in done.out.splitlines()) <= 80
    assert "faction" in done.out

    # what was measured on other hours is not set beside it
    assert cli(
        "evaluate", "no_control", "--dataset", small_dataset.path, "--steps", 23, "--out", "outputs/some"
    )
    refused = cli("compare", "some")
    assert refused.code == 2
    assert "differ in window" in refused.err


@pytest.mark.integration
def test_weights_of_the_score_can_be_given(cli: Cli, small_dataset, tmp_path: Path):
    reward = tmp_path / "reward.yaml"
    reward.write_text(
        "co2_weight: 1\nsolar_weight: 0\ncost_weight: 0\n"
        "ev_satisfaction_weight: 0\ngrid_stability_weight: 0\n",
        encoding="utf-8",
    )
    done = cli(
        *("evaluate", "no_control", "--dataset", small_dataset.path, "--steps", 24),
        *("--reward", reward, "--json"),
    )
    components = one_json_document(done)["score_components"]
    assert components == pytest.approx(
        {"co2": 1, "solar": 0, "cost": 0, "ev_satisfaction": 0, "grid_stability": 0}
    )


def test_the_installed_command_behaves_as_the_function(tmp_path: Path):
    """One real process: exit code, one line on stderr, nothing on stdout, nothing written."""
    done = subprocess.run(
        [sys.executable, "-m", "iquitos_rl.cli", "compare", "nothing"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "error: outputs/nothing: no results in this folder; evaluate the experiment first"
    ]
    assert written(tmp_path) == []


def test_validate_compares_both_engines_unless_told_not_to(cli: Cli, small_dataset: Any):
    compared = cli("dataset", "validate", small_dataset.path)
    assert compared.code == 0
    assert "the engines agree over 72 hours" in compared.out
    quick = cli("dataset", "validate", small_dataset.path, "--no-parity")
    assert quick.code == 0
    assert "engines" not in quick.out
    parity = json.loads(cli("dataset", "validate", small_dataset.path, "--json").out)["parity"]
    assert parity["equal"] is True
    assert parity["largest_relative_difference"] <= 1e-4


def test_validate_fails_if_the_engines_differ(cli: Cli, small_dataset: Any, monkeypatch: pytest.MonkeyPatch):
    from iquitos_rl.env.batch.chargers import ChargerBank

    drawn = ChargerBank.drawn_kwh
    monkeypatch.setattr(ChargerBank, "drawn_kwh", lambda self, balance: drawn(self, balance) * 1.001)
    done = cli("dataset", "validate", small_dataset.path)
    assert done.code == 2
    assert "engines differ: " in done.out
    assert "sockets_kwh" in done.out


def test_evaluate_says_which_engine_and_both_say_the_same(cli: Cli, small_dataset: Any):
    week = ("--start-day", "3", "--steps", "48")
    kpis = [
        json.loads(
            cli("evaluate", "no_control", "--dataset", small_dataset.path, *week, *engine, "--json").out
        )
        for engine in ((), ("--engine", "citylearn"))
    ]
    assert [result["engine"] for result in kpis] == ["batch", "citylearn"]
    assert kpis[0]["grid_import_kwh"] == pytest.approx(kpis[1]["grid_import_kwh"], rel=1e-6)


@pytest.mark.integration
def test_a_folder_with_brackets_in_its_name_is_like_any_other(cli: Cli, small_dataset: Any):
    common = ("--dataset", small_dataset.path, "--steps", 24, "--out", "x[/b]y")
    done = cli("evaluate", "best_rule", *common, "--json")
    assert done.code == 0
    assert one_json_document(done)["kind"] == "rule"
    assert "x[/b]y" in done.err
    assert cli("evaluate", "no_control", *common).code == 0
    compared = cli("compare", "x[/b]y", "--lang", "es")
    assert compared.code == 0
    assert "x[/b]y/report.html" in compared.err
    assert "captured_share" in Path("x[/b]y/comparison.csv").read_text(encoding="utf-8")


@pytest.mark.integration
def test_bad_input_to_evaluate_leaves_no_folder_behind(cli: Cli, small_dataset: Any):
    for arguments in (("nonsense", "--dataset", small_dataset.path), ("best_rule", "--dataset", "nowhere")):
        refused = cli("evaluate", *arguments, "--out", "o1/deep")
        assert refused.code == 2
        assert not Path("o1").exists()
    Path("afile").write_text("")
    refused = cli("evaluate", "best_rule", "--dataset", small_dataset.path, "--out", "afile")
    assert refused.code == 2
    assert "--out afile: cannot be made a folder" in refused.err


@pytest.mark.integration
def test_a_checkpoint_is_not_evaluated_over_the_results_of_an_experiment(
    cli: Cli, small_dataset: Any, tmp_path: Path
):
    make_policy(tmp_path / "policy", "ppo")
    Path("results").mkdir()
    Path("results/summary.json").write_text("{}")
    refused = cli("evaluate", tmp_path / "policy", "--dataset", small_dataset.path, "--out", "results")
    assert refused.code == 2
    assert "holds an experiment's own results" in refused.err
    assert sorted(path.name for path in Path("results").iterdir()) == ["summary.json"]


@pytest.mark.integration
def test_a_language_that_there_is_none_is_refused_and_nothing_is_written(cli: Cli, small_dataset: Any):
    assert (
        cli("evaluate", "no_control", "--dataset", small_dataset.path, "--steps", 24, "--out", "r").code == 0
    )
    before = sorted(Path("r").iterdir())
    refused = cli("compare", "r", "--lang", "fr")
    assert refused.code == 2
    assert "en or es" in refused.err
    assert sorted(Path("r").iterdir()) == before
