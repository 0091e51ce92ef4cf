"""The command line: parses, calls the library, prints. Tables go to stdout, progress to stderr.

Exit codes: 0 done; 1 finished with warnings, failed or stopped trials; 2 bad input, nothing was changed.
"""

from __future__ import annotations

import enum
import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from iquitos_rl import __version__
from iquitos_rl.config import ConfigError, RewardWeights, load_reward, load_run, load_site
from iquitos_rl.tables import WIDTH

__all__ = ["app", "main"]

DEFAULT_SITE = Path("ray_configs/sites/iquitos_station.yaml")
DEFAULT_RUN = Path("ray_configs/runs/train_all.yaml")
DEFAULT_REWARD = Path("ray_configs/reward.yaml")
DEFAULT_DATASET = Path("datasets/iquitos_station")
DEFAULT_SEED = 2026
BAD_INPUT = 2

app = typer.Typer(
    help="Train controllers for electric-vehicle charging sites with reinforcement learning on Ray.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
dataset_app = typer.Typer(help="Make, check and describe the data of a site.", no_args_is_help=True)
app.add_typer(dataset_app, name="dataset")
bench_app = typer.Typer(help="Measure speed on this machine.", no_args_is_help=True)
app.add_typer(bench_app, name="bench")

out = Console(width=None if sys.stdout.isatty() else WIDTH)
err = Console(stderr=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a key: --set a.b=c (repeatable).", metavar="KEY=VALUE"),
]
DatasetPath = Annotated[Path, typer.Argument(help="Folder of the dataset.")]


class EngineChoice(enum.StrEnum):
    """What ``--engine`` takes."""

    batch = "batch"
    citylearn = "citylearn"


EngineName = Annotated[
    EngineChoice, typer.Option("--engine", help="What simulates: citylearn is the slow reference.")
]
DEFAULT_ENGINE = EngineChoice.batch
Address = Annotated[str, typer.Option(help="local (a Ray of its own), auto, or HOST:PORT of a cluster.")]
Dashboard = Annotated[bool, typer.Option(help="Whether a local Ray gets a dashboard, on loopback.")]


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1))


@dataset_app.command("build")
def dataset_build(
    site: Annotated[Path, typer.Option(help="YAML of the site.")] = DEFAULT_SITE,
    out_: Annotated[
        Path | None, typer.Option("--out", help="Folder to make; datasets/<site name> if left out.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.", min=0)] = DEFAULT_SEED,
    csv: Annotated[bool, typer.Option("--csv", help="Write CSV tables instead of Parquet.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a dataset that is there.")] = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Make the years of a site: PV, load, charging sessions, tariff, and no control's values."""
    from iquitos_rl.site import build_dataset

    config = load_site(site, overrides or ())
    folder = out_ or Path("datasets") / config.name
    built = []

    def show(what: str, done: int, total: int) -> None:
        built.append(what)
        err.print(f"{what} ({done} of {total})", highlight=False)

    table_format: Literal["csv", "parquet"] = "csv" if csv else "parquet"
    dataset = build_dataset(config, folder, seed, table_format=table_format, overwrite=force, progress=show)
    if not built:
        err.print(f"{dataset.path} is up to date", highlight=False, soft_wrap=True)
    if as_json:
        _print_json({"path": str(dataset.path), "seed": seed, "fingerprint": dataset.fingerprint})
        return
    years = ", ".join(f"{dataset.years(split)} {split}" for split in ("train", "validation", "test"))
    typer.echo(f"{dataset.path}: {years} years, fingerprint {dataset.fingerprint}")


@dataset_app.command("validate")
def dataset_validate(
    path: DatasetPath = DEFAULT_DATASET,
    parity: Annotated[
        bool, typer.Option(help="Whether to compare the batch engine with CityLearn over three days.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Check the tables and the physics of a dataset, and that both engines agree on it."""
    from iquitos_rl.site import load_dataset, validate_dataset

    report = validate_dataset(path)
    compared, not_compared = None, None
    if parity and not report.errors:
        from iquitos_rl.env import UnsupportedSchemaError
        from iquitos_rl.env.parity import check_parity

        err.print("Comparing the batch engine with CityLearn over three days", highlight=False)
        try:
            compared = check_parity(load_dataset(path).schema_path("test"))
        except UnsupportedSchemaError as error:
            not_compared = str(error)
    if as_json:
        findings = [vars(finding) for finding in report.findings]
        values = {"path": str(path), "tables": report.tables, "findings": findings}
        engines = {"equal": None, "reason": not_compared} if compared is None else compared.to_json()
        _print_json(values | {"parity": engines})
    else:
        for finding in report.findings:
            typer.echo(str(finding))
        typer.echo(
            f"{path}: {report.tables} tables, {len(report.errors)} errors, {len(report.warnings)} warnings"
        )
        if not_compared:
            typer.echo(f"engines not compared: {not_compared}")
        if compared is not None:
            for line in compared.differences:
                typer.echo(f"engines differ: {line}")
            typer.echo(
                f"{compared.schema}: the engines {'agree' if compared.equal else 'differ'} over "
                f"{compared.steps} hours from hour {compared.start_step}; largest relative difference "
                f"{compared.largest:.1e}"
            )
    if compared is not None and not compared.equal:
        raise typer.Exit(BAD_INPUT)
    raise typer.Exit(max(report.exit_code, int(not_compared is not None)))


@dataset_app.command("describe")
def dataset_describe(path: DatasetPath = DEFAULT_DATASET, as_json: AsJson = False) -> None:
    """Show what is in a dataset, and what no control does in each of its years."""
    from iquitos_rl.site import describe_dataset
    from iquitos_rl.tables import plain_table

    described = describe_dataset(path)
    if as_json:
        _print_json(described)
        return
    feeder = f"{described['installed_power_kw']:g} kW behind a feeder of {described['feeder_limit_kw']:g} kW"
    out.print(
        f"{described['path']}: {described['site']}, seed {described['seed']}, "
        f"{described['sockets']} sockets, {feeder}, {described['size_bytes'] / 1e6:.0f} MB\n"
        f"fingerprint {described['fingerprint']}",
        highlight=False,
        soft_wrap=True,
    )
    table = plain_table("Each year, and what no control does in it")
    table.add_column("year", no_wrap=True)
    for heading in (
        "PV\nMWh",
        "load\nMWh",
        "sessions\na day",
        "satisf.\nat most",
        "import\nMWh",
        "satis-\nfaction",
        "solar\nused",
        "net CO2\nt",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for year in described["years"]:
        control = year["no_control"]
        table.add_row(
            f"{year['split']} {year['year']}",
            f"{year['pv_generation_kwh'] / 1000:.0f}",
            f"{year['load_kwh'] / 1000:.0f}",
            f"{year['sessions_per_day']:.0f}",
            _percent(year["ceiling_ev_satisfaction"]),
            f"{control['grid_import_kwh'] / 1000:.1f}",
            _percent(control["ev_satisfaction"]),
            _percent(control["solar_utilisation"]),
            f"{control['co2_net_kg'] / 1000:+.1f}",
        )
    out.print(table)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


@app.command()
def train(
    run: Annotated[Path, typer.Option(help="YAML of the run.")] = DEFAULT_RUN,
    algo: Annotated[str | None, typer.Option(help="Only these, e.g. a2c,ppo.")] = None,
    address: Address = "local",
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run stopped.")] = False,
    eval_only: Annotated[
        bool, typer.Option("--eval-only", help="Only evaluate the newest checkpoints.")
    ] = False,
    env_steps: Annotated[int | None, typer.Option(help="Environment steps of each agent.", min=1)] = None,
    episodes: Annotated[int | None, typer.Option(help="Budget in years of 8,759 steps.", min=1)] = None,
    engine: Annotated[
        EngineChoice | None, typer.Option("--engine", help="What simulates; the run's own if left out.")
    ] = None,
    dashboard: Dashboard = True,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Train the agents of a run side by side, evaluate them on an unseen year, and compare them."""
    if env_steps is not None and episodes is not None:
        raise ConfigError("--env-steps and --episodes exclude each other")
    changes = list(overrides or ())
    if env_steps is not None:
        changes += ["stop.episodes=null", f"stop.env_steps={env_steps}"]
    if episodes is not None:
        changes += ["stop.env_steps=null", f"stop.episodes={episodes}"]
    if engine is not None:
        changes += [f"environment.engine={engine.value}", f"evaluation.engine={engine.value}"]
    algorithms = [name.strip() for name in algo.split(",")] if algo is not None else None
    config = load_run(run, changes, algorithms)
    from iquitos_rl.training import train as train_run

    outcome = train_run(
        config,
        address=address,
        resume=resume,
        eval_only=eval_only,
        dashboard=dashboard,
        console=err,
    )
    _report_training(outcome, config.demonstration, as_json, address)


@app.command()
def restore(
    experiment: Annotated[Path, typer.Argument(help="Folder of the experiment, e.g. runs/train_all.")],
    address: Address = "local",
    dashboard: Dashboard = True,
    as_json: AsJson = False,
) -> None:
    """Go on with an experiment from its folder: unfinished and failed agents train to their budgets."""
    from iquitos_rl.training import restore as restore_run
    from iquitos_rl.training.outputs import read_manifest

    outcome = restore_run(experiment, address=address, dashboard=dashboard, console=err)
    demonstration = read_manifest(experiment).config.demonstration
    _report_training(outcome, demonstration, as_json, address)


def _report_training(outcome: Any, demonstration: bool, as_json: bool, address: str) -> None:
    from iquitos_rl.evaluation.compare import comparison_table

    if as_json:
        _print_json(outcome.summary)
    elif outcome.comparison:
        out.print(comparison_table(outcome.comparison, demonstration=demonstration))
    if not outcome.finished:
        for agent in outcome.agents:
            steps = f"{agent.env_steps:,} of {agent.budget:,} environment steps"
            saved = f"last checkpoint {agent.checkpoint}" if agent.checkpoint else "no checkpoint yet"
            err.print(f"{agent.algorithm}: {agent.status}, {steps}, {saved}", highlight=False, soft_wrap=True)
        where = "" if address == "local" else f" --address {address}"
        err.print(
            f"Go on with: iquitos-rl restore {outcome.experiment}{where}", highlight=False, soft_wrap=True
        )
        raise typer.Exit(1)


@app.command()
def evaluate(
    controller: Annotated[str, typer.Argument(help="no_control, or the folder of a checkpoint.")],
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
    from iquitos_rl.evaluation.compare import kpi_table
    from iquitos_rl.site import load_dataset
    from iquitos_rl.training.agents import evaluate_with_progress

    if out_ is not None:
        out_.mkdir(parents=True, exist_ok=True)  # what cannot be written is refused before the simulation
    chosen = load_controller(controller, latest=latest)
    weights = _weights(reward, chosen)
    data = load_dataset(dataset)
    data.check_files()
    evaluator = Evaluator(data, split=split, year=year, engine=engine.value, weights=weights)
    result = evaluate_with_progress(evaluator, chosen, window, err)
    if out_ is not None:
        err.print(f"Written to {result.write(out_)}", highlight=False, soft_wrap=True)
    if as_json:
        _print_json(result.kpis)
    else:
        out.print(kpi_table(result.kpis))


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
    experiment: Annotated[str, typer.Argument(help="Name of an experiment, or a folder of results.")],
    as_json: AsJson = False,
) -> None:
    """Show the results of an experiment side by side, against no control."""
    from iquitos_rl.evaluation.compare import compare as compare_results
    from iquitos_rl.evaluation.compare import comparison_table, read_results
    from iquitos_rl.training.outputs import MANIFEST_FILE, read_manifest

    folder = Path(experiment) if Path(experiment).is_dir() else Path("outputs") / experiment
    if (folder / MANIFEST_FILE).is_file():  # the experiment itself: its results lie elsewhere
        folder = Path(read_manifest(folder).config.output_path) / folder.name
    results = read_results(folder)
    rows = compare_results(results)
    if as_json:
        _print_json(rows)
    else:
        out.print(comparison_table(rows, demonstration=any(r.get("demonstration") for r in results)))


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
        _print_json(result.to_json())
    else:
        out.print(engine_table(result))


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
    except KeyboardInterrupt:
        err.print("stopped at once; go on from the last checkpoint with --resume")
        sys.exit(1)
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


if __name__ == "__main__":
    main()
