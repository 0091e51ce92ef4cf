"""``iquitos-rl dataset``: make, check and describe the data of a site."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from iquitos_rl.cli.options import (
    BAD_INPUT,
    DEFAULT_DATASET,
    DEFAULT_SEED,
    DEFAULT_SITE,
    AsJson,
    DatasetPath,
    Overrides,
    err,
    out,
    print_json,
)
from iquitos_rl.config import load_site

__all__ = ["dataset_app"]

dataset_app = typer.Typer(help="Make, check and describe the data of a site.", no_args_is_help=True)


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
        print_json({"path": str(dataset.path), "seed": seed, "fingerprint": dataset.fingerprint})
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
        print_json(values | {"parity": engines})
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
        print_json(described)
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
