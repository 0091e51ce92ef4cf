"""The command line: parses, calls the library, prints. Tables go to stdout, progress to stderr.

Exit codes: 0 done; 1 finished with warnings, failed or stopped trials; 2 bad input, nothing was changed; 130
stopped at once by Ctrl-C.
"""

from __future__ import annotations

import logging
import os
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from iquitos_rl import __version__
from iquitos_rl.cli.dataset import dataset_app
from iquitos_rl.cli.options import (
    BAD_INPUT,
    DEFAULT_DATASET,
    DEFAULT_ENGINE,
    DEFAULT_REWARD,
    DEFAULT_RUN,
    DEFAULT_SITE,
    REPORT_RUN,
    AsJson,
    EngineName,
    Overrides,
    err,
    out,
    print_json,
)
from iquitos_rl.cli.runs import restore, train
from iquitos_rl.config import ConfigError, RewardWeights, load_reward, load_run, load_site

__all__ = ["app", "main"]

app = typer.Typer(
    help="Train controllers for electric-vehicle charging sites with reinforcement learning on Ray.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(dataset_app, name="dataset")
bench_app = typer.Typer(help="Measure speed on this machine.", no_args_is_help=True)
app.add_typer(bench_app, name="bench")

app.command()(train)
app.command()(restore)


@app.command()
def evaluate(
    controller: Annotated[
        str, typer.Argument(help="A rule such as best_rule, oracle, mpc, or the folder of a checkpoint.")
    ],
    dataset: Annotated[Path, typer.Option(help="Folder of the dataset.")] = DEFAULT_DATASET,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    year: Annotated[int, typer.Option(help="Number of the year within the split.", min=0)] = 0,
    start_day: Annotated[int, typer.Option(help="First day, 0-364.", min=0, max=364)] = 0,
    steps: Annotated[
        int | None, typer.Option(help="Hours; to the end of the year if left out.", min=1)
    ] = None,
    engine: EngineName = DEFAULT_ENGINE,
    reward: Annotated[
        Path | None,
        typer.Option(help="YAML of the weights of the score; else the policy's own, or reward.yaml."),
    ] = None,
    latest: Annotated[
        bool, typer.Option("--latest", help="The checkpoint's own policy, not its best by validation.")
    ] = False,
    out_: Annotated[Path | None, typer.Option("--out", help="Write result and time series here.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run a controller deterministically through a year and print its KPIs."""
    window = _window(start_day, steps)
    from iquitos_rl.control import load_controller
    from iquitos_rl.evaluation import Evaluator
    from iquitos_rl.evaluation.console import kpi_table
    from iquitos_rl.site import load_dataset
    from iquitos_rl.training.agents import evaluate_with_progress

    chosen = load_controller(controller, latest=latest)
    weights = _weights(reward, chosen)
    data = load_dataset(dataset)
    data.check_files()
    evaluator = Evaluator(data, split=split, year=year, engine=engine.value, weights=weights)
    if out_ is not None:
        _make_folder(out_, chosen.kind)
    result = evaluate_with_progress(evaluator, chosen, window, err)
    if out_ is not None:
        err.print(f"Written to {result.write(out_)}", highlight=False, soft_wrap=True)
    if as_json:
        print_json(result.kpis)
    else:
        out.print(kpi_table(result.kpis))


def _make_folder(folder: Path, kind: str) -> None:
    """Make a folder for results: what cannot be written is refused before the simulation."""
    from iquitos_rl.training.outputs import SUMMARY_FILE

    if kind == "agent" and (folder / SUMMARY_FILE).is_file():
        raise ConfigError(
            f"--out {folder}: holds an experiment's own results of its agents; name another folder"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {folder}: cannot be made a folder ({error.strerror})") from None


def _weights(reward: Path | None, controller: Any) -> RewardWeights:
    """Weights of the score: those asked for, else those a policy was trained with, else reward.yaml's."""
    trained = getattr(controller, "policy", None)
    if reward is None and trained is not None and trained.origin.get("reward"):
        return RewardWeights(**trained.origin["reward"])
    if reward is None and not DEFAULT_REWARD.is_file():  # not in the project's folder
        return RewardWeights()
    return load_reward(reward or DEFAULT_REWARD)


def _window(start_day: int, steps: int | None) -> Any:
    from pydantic import ValidationError

    from iquitos_rl.config import WindowConfig

    try:
        return WindowConfig(start_day=start_day, steps=steps)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"--start-day {start_day} --steps {steps}: {reason}") from None


@app.command()
def compare(
    experiments: Annotated[
        list[str], typer.Argument(help="Names of experiments, or folders of results; several for seeds.")
    ],
    lang: Annotated[str, typer.Option(help="Language of the report: en or es.")] = "en",
    out_: Annotated[
        Path | None, typer.Option("--out", help="Folder to write to; that of the first if left out.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show results side by side; write comparison.json, comparison.csv and report.html."""
    from iquitos_rl.evaluation.console import comparison_table
    from iquitos_rl.evaluation.publish import publish
    from iquitos_rl.training.outputs import MANIFEST_FILE, read_manifest

    folders = []
    for experiment in experiments:
        folder = Path(experiment) if Path(experiment).is_dir() else Path("outputs") / experiment
        if (folder / MANIFEST_FILE).is_file():  # the experiment itself: its results lie elsewhere
            folder = Path(read_manifest(folder).config.output_path) / folder.name
        folders.append(folder)
    published = publish(folders, out_, lang=lang)
    if as_json:
        print_json(published.rows)
    else:
        out.print(comparison_table(published.rows, demonstration=published.demonstration))
    err.print(f"Report: {published.report}", highlight=False, soft_wrap=True)


@bench_app.callback()
def bench() -> None:
    """Measure speed on this machine."""


@bench_app.command("engine")
def bench_engine(
    site: Annotated[Path, typer.Option(help="YAML of the site.")] = DEFAULT_SITE,
    repeats: Annotated[int, typer.Option(help="Measurements; their median counts.", min=1)] = 3,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Environment steps a second: CityLearn, and the batch engine for 1 to 1,024 environments."""
    config = load_site(site, overrides or ())
    from iquitos_rl.bench import bench_engine as measure
    from iquitos_rl.bench import engine_table

    result = measure(config, repeats=repeats, say=lambda text: err.print(text, highlight=False))
    if as_json:
        print_json(result.to_json())
    else:
        out.print(engine_table(result))


@bench_app.command("train")
def bench_train(
    run: Annotated[
        Path, typer.Option(help="YAML of the run whose site and hyperparameters are taken.")
    ] = REPORT_RUN,
    algo: Annotated[str | None, typer.Option(help="Only these, e.g. a2c,ppo.")] = None,
    repeats: Annotated[int, typer.Option(help="Measurements; their median counts.", min=1)] = 3,
    with_sb3: Annotated[
        bool, typer.Option("--with-sb3", help="Also Stable-Baselines3 on CityLearn; takes minutes.")
    ] = False,
    sweeps: Annotated[
        bool, typer.Option(help="Also PPO by minibatch 128, 512, 2048 and by 0, 1, 2 env runners.")
    ] = True,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Training speed: ours, RLlib as it is, a bare PyTorch loop; all with the same sizes, in turns."""
    config = load_run(run, overrides or (), _names(algo))
    from iquitos_rl.bench.training import ALGORITHMS, ENV_RUNNERS, MINIBATCH_SIZES, bench_training
    from iquitos_rl.bench.training_table import training_tables

    result = bench_training(
        config,
        algorithms=[name for name in ALGORITHMS if name in config.algorithms.names],
        repeats=repeats,
        with_sb3=with_sb3,
        minibatch_sizes=MINIBATCH_SIZES if sweeps else (),
        env_runners=ENV_RUNNERS if sweeps else (),
        say=lambda text: err.print(text, highlight=False),
    )
    if as_json:
        print_json(result.to_json())
    else:
        for table in training_tables(result):
            out.print(table)


def _names(algo: str | None) -> list[str] | None:
    return None if algo is None else [name.strip() for name in algo.split(",")]


@app.command()
def validate(
    run: Annotated[Path, typer.Option(help="YAML of the run that is to be trained.")] = DEFAULT_RUN,
    dataset: Annotated[Path | None, typer.Option(help="Folder of the data, if not the run's own.")] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Skip the six checks that start Ray.")] = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Twenty checks before training. Exits 0 if all is well, 1 with warnings, 2 with errors."""
    from iquitos_rl.checks import validate as make_checks

    say = partial(err.print, highlight=False, soft_wrap=True, markup=False)
    report = make_checks(run, overrides or (), dataset=dataset, fast=fast, say=say)
    if as_json:
        print_json(report.to_json())
    else:
        report.print(out)
    raise typer.Exit(report.exit_code)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main(arguments: list[str] | None = None) -> None:
    """Entry point of ``iquitos-rl``. ``--debug`` anywhere shows tracebacks."""
    # Before torch is imported: threads of several trials on the same cores slow each other down many times.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    logging.basicConfig(format="%(message)s", level=logging.INFO if debug else logging.WARNING)
    try:
        app(arguments)  # exits by itself, with 2 for options that are not there
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        # ConfigError, DatasetError, ExperimentError and the like: their texts say what to do.
        if debug:
            raise
        text = str(error).strip() or type(error).__name__
        err.print(f"error: {text}", style="red", highlight=False, soft_wrap=True, markup=False)
        if isinstance(error, RuntimeError):  # not the input, but what happened after it was taken
            err.print("--debug shows where", highlight=False)
            sys.exit(1)
        sys.exit(BAD_INPUT)
