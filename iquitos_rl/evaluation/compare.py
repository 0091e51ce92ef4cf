"""Results side by side, against no control and the optimum. Import is never shown without satisfaction."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any

from iquitos_rl.config.run import STEPS_PER_YEAR
from iquitos_rl.control.oracle import ORACLE
from iquitos_rl.evaluation.statistics import over_seeds
from iquitos_rl.files import replace_file, write_json

__all__ = [
    "BASELINE",
    "EXPECTED",
    "MINIMUM_SATISFACTION",
    "ComparisonError",
    "compare",
    "read_object",
    "read_results",
    "write_comparison",
]

BASELINE = "no_control"
MINIMUM_SATISFACTION = 0.88
"""The service gate: below it vehicles are starved, and what that saves is no merit."""
SAME = ("site", "dataset_fingerprint", "split", "year", "window", "weights", "definitions")
"""What results must have in common to be compared."""
REFERENCE_SITE = "iquitos_station"
EXPECTED_OF = ("import_change_share", "solar_utilisation", "ev_satisfaction", "co2_net_kg")
EXPECTED = {
    name: dict(zip(EXPECTED_OF, values, strict=True))
    for name, values in {
        "a2c": (-0.15, 0.58, 0.88, -30_000.0),
        "sac": (-0.18, 0.65, 0.91, -45_000.0),
        "ppo": (-0.16, 0.60, 0.87, -35_000.0),
    }.items()
}
"""What the report expects of each agent over a year of `REFERENCE_SITE`."""
SHORT = 40
"""Longer values are cut in messages."""
ADVICE = {
    "dataset_fingerprint": "they are of different data: evaluate both on one dataset",
    "site": "they are of different sites",
    "window": "evaluate both on the same hours (--start-day, --steps)",
    "weights": "evaluate both with the same weights (--reward)",
    "definitions": "one is of another release: evaluate it again",
}
"""What to do about a difference."""
RESULT_KEYS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("controller", "kind", "engine", "site", "split", "dataset_fingerprint"), str),
    **dict.fromkeys(("score", "grid_import_kwh", "co2_grid_kg", "co2_net_kg", "cost_usd"), (int, float)),
    **dict.fromkeys(("mean_daily_peak_kw",), (int, float)),
    **dict.fromkeys(("ev_satisfaction", "solar_utilisation"), (int, float, NoneType)),
    **dict.fromkeys(("window", "weights", "score_components", "controller_settings"), dict),
    **dict.fromkeys(("year", "definitions"), int),
}
"""What every result has."""
KINDS = ("rule", "agent", "optimum")
"""In the order of tables: from what is there today to what is possible."""


class ComparisonError(ValueError):
    """Results that cannot be compared; the text says why in one line."""


def read_results(*folders: Path) -> list[dict[str, Any]]:
    """The results in output folders.

    Where a run has left its ``summary.json``, those it names, and of others those of rules on the same hours
    and data: what else is there is of an earlier run. Each result says in ``folder`` where it was.

    Raises:
        ComparisonError: there are none, or one is damaged.
    """
    results = []
    for folder in folders:
        found = [_read_result(path) for path in sorted(folder.glob("result_*.json"))]
        summary = folder / "summary.json"
        if summary.is_file():
            names = read_object(summary, {"results": list})["results"]
            named = [r for r in found if f"result_{r['controller']}.json" in names]
            found = [r for r in found if r in named or (r["kind"] != "agent" and _fits(r, named))]
        if not found:
            raise ComparisonError(f"{folder}: no results in this folder; evaluate the experiment first")
        results += [result | {"folder": str(folder)} for result in found]
    return results


def _fits(result: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> bool:
    return all(result.get(key) == other.get(key) for key in SAME for other in others[:1])


def read_object(path: Path, keys: Mapping[str, type | tuple[type, ...]]) -> dict[str, Any]:
    """A JSON object with values of these types under these keys.

    Raises:
        ComparisonError: it cannot be read, or lacks a key, or has another value there.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ComparisonError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(value, dict):
        raise ComparisonError(f"{path}: not a file of ours, or damaged: expected an object")
    for key, kind in keys.items():
        if key not in value:
            raise ComparisonError(f"{path}: damaged, or of another release: there is no {key} in it")
        if not isinstance(value[key], kind) or isinstance(value[key], bool):
            raise ComparisonError(f"{path}: damaged: {key} is {json.dumps(value[key])[:60]}")
    return value


def _read_result(path: Path) -> dict[str, Any]:
    result = read_object(path, RESULT_KEYS)
    if result["kind"] not in KINDS:
        raise ComparisonError(f"{path}: damaged: kind is {result['kind']!r}, expected {', '.join(KINDS)}")
    return result


def compare(
    results: Sequence[Mapping[str, Any]], minimum_satisfaction: float = MINIMUM_SATISFACTION
) -> list[dict[str, Any]]:
    """The ladder: rules, agents and the optimum, each against no control and against the optimum.

    Results of one agent with several seeds become one row, see `over_seeds`.

    Args:
        results: as `Evaluator` makes them; one must be of no control.
        minimum_satisfaction: the service gate.

    Returns:
        One mapping per controller, its settings and engine: its KPIs, and

        - ``meets_service``: whether its satisfaction passes the gate (None without departures);
        - ``import_change_share``, ``cost_change_share``, ``co2_change_share`` (grid CO2) relative to no
          control;
        - ``captured_share``: of what is possible, (1 - score) / (1 - the oracle's score), where 1 is no
          control's score (less where an objective's divisor is at its floor); None without an oracle;
        - ``expected``: the report's expected row of an agent (over a year of the reference site), else None;
        - ``training_seconds``: None for what needs none;
        - ``seeds``, ``intervals``, ``seed_results``.

        Rules first, by falling score, then agents, then the optimum.

    Raises:
        ComparisonError: no control is missing, or the results are not of the same hours, data, weights and
            definitions.
    """
    baseline = next((r for r in results if r["controller"] == BASELINE), None)
    if baseline is None:
        raise ComparisonError(f"nothing to compare with: there is no result of {BASELINE}")
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for result in results:
        _check_same(result, baseline)
        settings = json.dumps(result["controller_settings"], sort_keys=True)
        key = (result["controller"], result["engine"], result["kind"], settings)
        group = groups.setdefault(key, [])
        # A rule gives one result, however many experiments have it.
        if not group or (result["kind"] == "agent" and not _is_there(result, group)):
            group.append(result)
    merged = _with_distinct_names([over_seeds(group) for group in groups.values()])
    best = next((row for row in merged if row["controller"] == ORACLE), None)
    rows = [_row(row, baseline, best, minimum_satisfaction) for row in merged]
    return sorted(
        rows, key=lambda r: (r["controller"] != BASELINE, KINDS.index(r["kind"]), -float(r["score"]))
    )


def _check_same(result: Mapping[str, Any], baseline: Mapping[str, Any]) -> None:
    for key in SAME:
        ours, theirs = result.get(key), baseline.get(key)
        if ours == theirs:
            continue
        if isinstance(ours, dict) and isinstance(theirs, dict):
            ours, theirs = _only_what_differs(ours, theirs), _only_what_differs(theirs, ours)
        where = f" in {result['folder']}" if "folder" in result else ""
        raise ComparisonError(
            f"{result['controller']}{where} and {BASELINE} differ in {key}: {_short(ours)} and "
            f"{_short(theirs)}; {ADVICE.get(key, 'compare results of one year')}"
        )


def _only_what_differs(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in one.items() if other.get(key) != value}


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= SHORT else f"{text[:12]}..."


def _is_there(result: Mapping[str, Any], group: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a seed's result is in the group already: of a folder that was named twice.

    Raises:
        ComparisonError: another policy of a seed that is there.
    """
    same_seed = [r for r in group if r.get("seed") == result.get("seed")]
    for other in same_seed:
        if other.get("policy") != result.get("policy"):
            raise ComparisonError(
                f"{result['controller']}: two results of seed {result.get('seed')} with the same settings, "
                f"of {other.get('policy')} and of {result.get('policy')}; name one of them"
            )
    return bool(same_seed)


def _with_distinct_names(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of one name but other settings get their experiment's (or folder's) name behind it.

    The name of the result's files stays in ``result_name``.
    """
    names = [(row["controller"], row["engine"]) for row in rows]
    renamed = []
    for row, name in zip(rows, names, strict=True):
        shown = row["controller"]
        if names.count(name) > 1:
            shown = f"{shown}@{row.get('experiment') or Path(row.get('folder', '')).name}"
        renamed.append(row | {"controller": shown, "result_name": row["controller"]})
    return renamed


def _row(
    result: Mapping[str, Any],
    baseline: Mapping[str, Any],
    best: Mapping[str, Any] | None,
    minimum_satisfaction: float,
) -> dict[str, Any]:
    served = result["ev_satisfaction"]
    possible = baseline["score"] - best["score"] if best is not None else 0.0
    return dict(result) | {
        "meets_service": None if served is None else served >= minimum_satisfaction,
        "minimum_satisfaction": minimum_satisfaction,
        "import_change_share": _change(result, baseline, "grid_import_kwh"),
        "co2_change_share": _change(result, baseline, "co2_grid_kg"),
        "cost_change_share": _change(result, baseline, "cost_usd"),
        "captured_share": (baseline["score"] - result["score"]) / possible if possible > 0 else None,
        "expected": _expected(result),
        "training_seconds": (result.get("training") or {}).get("training_seconds"),
    }


def _expected(result: Mapping[str, Any]) -> dict[str, float] | None:
    of_a_year = result["window"]["steps"] == STEPS_PER_YEAR
    if result["kind"] != "agent" or result["site"] != REFERENCE_SITE or not of_a_year:
        return None
    return EXPECTED.get(str(result["result_name"]))


def _change(result: Mapping[str, Any], baseline: Mapping[str, Any], key: str) -> float | None:
    return result[key] / baseline[key] - 1.0 if baseline[key] else None


def write_comparison(rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Write ``comparison.json`` and ``comparison.csv`` (nested values only in the JSON)."""
    write_json(folder / "comparison.json", list(rows))
    flat = [{k: v for k, v in row.items() if not isinstance(v, dict | list)} for row in rows]
    columns = list(dict.fromkeys(key for row in flat for key in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(flat)
    replace_file(
        folder / "comparison.csv", lambda path: path.write_text(text.getvalue(), "utf-8", newline="")
    )
