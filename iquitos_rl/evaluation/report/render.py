"""A report as one HTML file that needs nothing else: no fonts, scripts or images from elsewhere."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from iquitos_rl.config.run import STEPS_PER_YEAR
from iquitos_rl.evaluation.compare import BASELINE
from iquitos_rl.evaluation.report.charts.co2 import co2_chart
from iquitos_rl.evaluation.report.charts.ladder import score_chart, service_chart
from iquitos_rl.evaluation.report.data import ReportData
from iquitos_rl.evaluation.report.headline import Headline, headline
from iquitos_rl.evaluation.report.sections import (
    arrival_section,
    days_section,
    heat_section,
    learning_section,
    pareto_section,
)
from iquitos_rl.evaluation.report.tables import (
    class_table,
    detail_table,
    expected_table,
    ladder_table,
    shown_details,
)
from iquitos_rl.evaluation.report.texts import Texts, load_texts
from iquitos_rl.files import replace_file
from iquitos_rl.objectives import OBJECTIVES

__all__ = ["FILE_NAME", "render_report", "write_report"]

FILE_NAME = "report.html"
PACKAGE = "iquitos_rl.evaluation.report"
TERMS = (
    "ev_satisfaction",
    "service_gate",
    "import",
    "solar",
    "co2",
    "co2_unserved",
    "cost",
    "peak",
    "score",
    "baseline",
    "optimum",
    "captured",
    "interval",
    "days",
)


def render_report(data: ReportData, lang: str = "en") -> str:
    """The report as HTML.

    Raises:
        ValueError: a language that reports are not written in.
    """
    texts = load_texts(lang)
    summary = headline(data, texts)
    return _template().render(
        t=texts,
        data=data,
        style=Markup(files(PACKAGE).joinpath("report.css").read_text(encoding="utf-8")),
        headline=summary,
        key_figures=_key_figures(data, summary, texts),
        period=_period(data, texts),
        ladder=ladder_table(data, texts),
        expected=expected_table(data, texts),
        details=detail_table(data, texts),
        service_chart=service_chart(data, texts),
        score_chart=score_chart(data, texts),
        objectives=OBJECTIVES,
        intervals=any(row.get("intervals") for row in data.rows),
        optimum=any(row["kind"] == "optimum" for row in data.rows),
        learning=learning_section(data, texts),
        days=days_section(data, texts),
        heat=heat_section(data, texts),
        arrival=arrival_section(data, texts),
        classes=class_table(data, texts),
        co2_chart=co2_chart(data, texts),
        pareto=pareto_section(data, texts),
        definitions=_definitions(data, texts),
    )


def write_report(data: ReportData, folder: Path, lang: str = "en") -> Path:
    """Write `FILE_NAME` into the folder, in the place of what is there, and return its path.

    Raises:
        ValueError: a language that reports are not written in.
    """
    html = render_report(data, lang)
    path = folder / FILE_NAME
    replace_file(path, lambda temporary: temporary.write_text(html, encoding="utf-8"))
    return path


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader(PACKAGE, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _breakable
    return environment.get_template("report.html.j2")


def _breakable(name: str) -> Markup:
    """A name that may be broken at its joints: ``laxity_first+self_consumption`` is wider than a column."""
    return Markup(re.sub(r"([_+])", r"\1<wbr>", str(escape(name))))


def _definitions(data: ReportData, texts: Texts) -> list[tuple[str, str]]:
    """Terms and their definitions; of the further figures only those that are shown."""
    gate = texts.percent(data.minimum_satisfaction)
    general = [(texts(f"define.{key}.term"), texts(f"define.{key}.text", gate=gate)) for key in TERMS]
    return general + [(texts(f"detail.{key}"), texts(f"define.{key}")) for key in shown_details(data)]


def _period(data: ReportData, texts: Texts) -> str:
    steps, start = data.window["steps"], data.window["start_step"]
    if steps == STEPS_PER_YEAR:
        return texts("period.year", split=texts(f"split.{data.split}"), year=data.year)
    return texts(
        "period.window",
        split=texts(f"split.{data.split}"),
        year=data.year,
        days=texts.number(steps / 24, 0 if steps % 24 == 0 else 1),
        start=texts.day(start // 24),
    )


@dataclass(frozen=True)
class KeyFigure:
    """A figure of the headline's controller, and what no control has."""

    label: str
    value: str
    note: str


def _key_figures(data: ReportData, summary: Headline, texts: Texts) -> list[KeyFigure]:
    """Service first; a controller that misses the gate shows no CO2."""
    row = summary.row
    if row is None:
        return []
    base = next((r for r in data.rows if r["controller"] == BASELINE), row)
    gate = "served" if row["meets_service"] else "unserved"
    figures = [
        KeyFigure(
            texts("column.satisfaction"),
            texts.percent(row["ev_satisfaction"], 1),
            texts(f"gate.{gate}", gate=texts.percent(data.minimum_satisfaction)),
        ),
        KeyFigure(
            texts("key.import"),
            texts.percent(row["import_change_share"], 1, sign=True),
            texts("key.import_note", mwh=texts.number(row["grid_import_kwh"] / 1000, 1)),
        ),
    ]
    if row["meets_service"]:
        figures.append(
            KeyFigure(
                texts("key.co2"),
                f"{texts.number(row['co2_net_kg'] / 1000, 1, sign=True)}\u00a0t",
                texts("key.base", value=f"{texts.number(base['co2_net_kg'] / 1000, 1, sign=True)}\u00a0t"),
            )
        )
    captured = row.get("captured_share") if row["meets_service"] else None
    note = "" if captured is None else texts("ladder.captured", share=texts.percent(captured))
    figures.append(
        KeyFigure(texts("column.score"), texts.number(row["score"], 3), note or texts("key.score_note"))
    )
    return figures
