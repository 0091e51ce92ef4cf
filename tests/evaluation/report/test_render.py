"""The report as a file: complete, self-contained, well-formed, in two languages, whatever it has to show."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest

from iquitos_rl.evaluation.report import LANGUAGES, render_report, write_report
from tests.evaluation.report.report_data import (
    agent,
    departures,
    hours,
    ladder,
    optimum,
    report_data,
    row,
    rule,
)

VOID = {"meta", "br", "wbr"}
SECTIONS = ["ladder", "learning", "days", "heat", "arrival", "co2", "pareto", "definitions", "provenance"]


class Page(HTMLParser):
    """Reads a page, and fails on tags that are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(html)
        assert self.open == [], "tags left open"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.text += data
        if "th" in self.open or "td" in self.open:
            # Notes are set off from the figure they stand under.
            self.rows[-1][-1] += f"|{data}" if "small" in self.open else data

    def row_of(self, name: str) -> list[str]:
        return next(cells for cells in self.rows if cells[0].split("|")[0] == name)


def page(lang: str = "en", **changes) -> Page:
    return Page(render_report(report_data(**changes), lang).replace("\u00a0", " "))


NOTHING_BUT_NO_CONTROL: dict[str, Any] = {
    "rows": [row("no_control")],
    "hours": {},
    "departures": {},
    "learning": {},
    "frontier": None,
}
NO_DEPARTURES: dict[str, Any] = {
    "rows": [row("no_control", ev_satisfaction=None), rule(ev_satisfaction=None, meets_service=False)],
    "departures": {"no_control": departures().head(0)},
    "frontier": None,
}
NO_PV_NO_BESS: dict[str, Any] = {
    "rows": [
        row("no_control", solar_utilisation=None, co2_avoided_solar_kg=0.0),
        rule(solar_utilisation=None, co2_avoided_solar_kg=0.0),
    ],
    "hours": {name: hours([0.0, 0.0]).assign(bess_stored_kwh=0.0) for name in ("no_control", "best_rule")},
    "bess_capacity_kwh": None,
}
SEVERAL_SEEDS: dict[str, Any] = {
    "rows": [
        row("no_control"),
        agent(seeds=3, intervals={"score": [0.6, 0.64], "ev_satisfaction": [0.9, 0.92]}),
    ],
}
CASES: dict[str, dict[str, Any]] = {
    "everything": {},
    "nothing but no control": NOTHING_BUT_NO_CONTROL,
    "no departures": NO_DEPARTURES,
    "no PV, no BESS": NO_PV_NO_BESS,
    "several seeds": SEVERAL_SEEDS,
    "agents without curves": {"learning": {"sac": pd.DataFrame(columns=["env_steps", "validation_score"])}},
    "a window without a whole day": {"hours": {"no_control": hours([5.0]).head(13)}},
    "rows without what is optional": {
        "rows": [
            {k: v for k, v in r.items() if k not in ("expected", "seeds", "intervals", "captured_share")}
            for r in ladder()
        ]
    },
    "nothing imported, nothing emitted": {
        "rows": [
            row("no_control", grid_import_kwh=0.0, co2_grid_kg=0.0, co2_net_kg=0.0, co2_avoided_solar_kg=0.0)
            | {"co2_unserved_kg": 0.0, "import_change_share": None, "co2_change_share": None}
        ],
        "hours": {"no_control": hours().assign(grid_import_kwh=0.0)},
        "frontier": None,
    },
}


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("case", CASES)
def test_a_report_has_all_sections_and_is_well_formed(case, lang):
    html = render_report(report_data(**CASES[case]), lang)
    sections = [
        attrs["id"] for tag, attrs in Page(html).tags if tag in ("section", "footer") and "id" in attrs
    ]
    assert sections == SECTIONS
    charts = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    for svg in charts:
        root = ElementTree.fromstring(svg)
        if root.get("role") == "img":
            assert root.findtext("title")
            assert root.findtext("desc")
            assert all(text.text for text in root.iter("text"))
    assert "nan" not in re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL).lower().split()
    assert not re.search(r' d="[^"]*(nan|inf)', html)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_report_loads_nothing(lang):
    html = render_report(report_data(), lang)
    assert not re.search(r"https?:|//[a-z]|url\(|@import", html)
    tags = [tag for tag, _ in Page(html).tags]
    assert not {"script", "link", "img", "iframe", "object"} & set(tags)
    assert not [attrs for _, attrs in Page(html).tags if {"src", "href"} & attrs.keys()]


@pytest.mark.parametrize(("lang", "heading"), [("en", "The ladder"), ("es", "La escalera")])
def test_a_report_speaks_its_language(lang, heading):
    found = page(lang)
    assert dict(found.tags[0][1])["lang"] == lang
    assert heading in found.text


def test_the_ladder_has_the_figures_of_the_data():
    cells = page().row_of("best rule")
    assert cells == [
        "best rule|rule",
        "94.0 %|✓ ≥ 88 %",
        "336.0|\u221220.0 %",
        "66.5 %",
        "\u221261.0|grid CO₂ 0.0 %",
        "110,000|0.0 %",
        "194",
        "0.580|94 % of the possible",
    ]


def test_the_table_has_a_row_for_each_controller_in_the_order_of_the_ladder():
    names = [cells[0].split("|")[0] for cells in page().rows]
    assert names[:5] == ["Controller", "no control", "best rule", "oracle", "SAC"]


def test_service_comes_before_any_co2():
    html = render_report(report_data())
    body = html[html.index("<body>") :]
    assert body.index("EV satisfaction") < body.index("CO₂")
    assert body.index("≥ 88") < body.index("CO₂")
    headings = page().rows[0]
    order = [headings.index(name) for name in ("EV satisfaction", "Grid import, MWh", "Net CO₂, t")]
    assert order == sorted(order)


def test_without_the_service_there_is_no_co2_in_the_key_figures_and_no_share_of_the_possible():
    starving = agent(ev_satisfaction=0.5, meets_service=False, score=0.3, captured_share=1.6)
    html = render_report(report_data(rows=[row("no_control"), starving, optimum()]))
    figures = html[html.index('class="figures"') : html.index('id="ladder"')]
    assert "50.0" in figures
    assert "CO₂" not in re.sub(r'<p class="lead">.*?</p>', "", figures)
    assert "of the possible" not in page(rows=[row("no_control"), starving, optimum()]).row_of("SAC")[-1]


def test_intervals_over_seeds_are_shown():
    cells = page(**SEVERAL_SEEDS).row_of("SAC")
    assert cells[0] == "SAC|trained agent|3 seeds"
    assert cells[1] == "91.0 %|✓ ≥ 88 %|90.0 to 92.0 %"
    assert cells[-1].endswith("0.600 to 0.640")


def test_agents_are_held_against_what_was_expected():
    found = page()
    expected = [cells for cells in found.rows if any("expected" in cell for cell in cells)]
    assert expected == [
        [
            "SAC|trained agent",
            "91.0 %|expected ≥ 91.0 % ✓",
            "\u221221.3 %|expected ≤ \u221218.0 % ✓",
            "66.0 %|expected ≥ 65.0 % ✓",
            "\u221258.4|expected ≤ \u221245.0 ✓",
        ]
    ]


def test_import_and_co2_are_not_reached_without_the_service():
    starving = agent(ev_satisfaction=0.5, meets_service=False)
    found = page(rows=[row("no_control"), starving])
    cells = next(cells for cells in found.rows if any("expected" in cell for cell in cells))
    assert cells[1].endswith("✗")
    assert cells[2].endswith("service not met")
    assert cells[4].endswith("service not met")


def test_the_days_are_named_with_their_dates():
    text = page().text
    assert "5 January" in text  # day 4 is typical
    assert "2 January" in text  # day 1 is cloudy
    assert "no control, typical day, 5 January" in text
    assert "90 % of the charge delivered that day" in text


def test_a_window_within_a_month_says_so():
    assert "within one month" in page().text
    assert "within one month" not in page(hours={"no_control": hours([1.0] * 40)}).text


def test_a_demonstration_says_so_before_its_headline():
    html = render_report(report_data(demonstration=True))
    assert html.index("A demonstration, not a result") < html.index("<h1>")
    assert "A demonstration, not a result" not in render_report(report_data())


def test_what_is_missing_is_said():
    text = page(**NOTHING_BUT_NO_CONTROL).text
    for sentence in (
        "No learning curve was recorded.",
        "No hourly flows were recorded.",
        "No departures were recorded.",
        "The physical limit has not been computed.",
        "No trained agent was evaluated.",
    ):
        assert sentence in text
    assert "No curve was recorded for PPO." in page(rows=[*ladder(), agent("ppo")]).text


HOSTILE = '<script>alert("x")</script>&{{ 7 * 7 }}'


def test_what_the_data_says_is_never_markup():
    rows = [row("no_control"), agent(HOSTILE, ev_satisfaction_by_class={HOSTILE: 0.5})]
    html = render_report(
        report_data(
            title=HOSTILE,
            site=HOSTILE,
            engine=HOSTILE,
            versions={HOSTILE: HOSTILE},
            rows=rows,
            hours={HOSTILE: hours()},
            departures={HOSTILE: departures().assign(vehicle_class=HOSTILE)},
            learning={HOSTILE: report_data().learning["sac"]},
        )
    )
    found = Page(html)
    assert "script" not in {tag for tag, _ in found.tags}
    assert "<script" not in html
    assert html.count("{{ 7 * 7 }}") > 5
    assert HOSTILE in found.text


def test_the_report_is_written_in_the_place_of_the_old_one(tmp_path):
    folder = tmp_path / "outputs" / "quick"
    path = write_report(report_data(), folder)
    assert path == folder / "report.html"
    write_report(report_data(), folder, "es")
    assert path.read_text(encoding="utf-8") == render_report(report_data(), "es")
    assert [file.name for file in folder.iterdir()] == ["report.html"]


def test_a_refused_language_leaves_the_old_report(tmp_path):
    path = write_report(report_data(), tmp_path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="en or es"):
        write_report(report_data(), tmp_path, "pt")
    assert path.read_bytes() == before


def test_an_installed_package_has_the_files_that_a_report_is_made_with():
    root = Path(__file__).resolve().parents[3]
    declared = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    needed = {
        path.name
        for path in (root / "iquitos_rl/evaluation/report").iterdir()
        if path.suffix not in ("", ".py")
    }
    assert needed == {"report.css", "report.html.j2", "texts_en.yaml", "texts_es.yaml"}
    for name in needed:
        assert any(fnmatch(name, pattern) for pattern in declared["iquitos_rl.evaluation.report"])
