"""Single values of a CityLearn schema, read as CityLearn reads them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["is_true", "limit", "plain_number", "set_keys", "shown"]


def set_keys(entry: Mapping[str, Any]) -> Iterator[str]:
    """Keys that switch something on: not null, false, zero, empty, or a section with ``enabled: false``."""
    for key, value in entry.items():
        off = isinstance(value, Mapping) and (
            value.get("enabled") is False or not any(True for _ in set_keys(value))
        )
        if value and not off:
            yield key


def is_true(value: Any) -> bool:
    """CityLearn takes flags as booleans, numbers or words."""
    if isinstance(value, str):
        return value.strip().lower() in ("true", "1", "yes", "y", "on", "t")
    return bool(value)


def plain_number(path: str, value: Any) -> float:
    """A number. Raises ValueError, which names ``path``, for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{path} {value!r}: expected a number")
    return float(value)


def limit(path: str, value: Any) -> float | None:
    """A limit in kW, as a number or a word ("inf"); None, also for infinity, means that there is none.

    Raises:
        ValueError: it is below 0 or no number; ``path`` is named.
    """
    if isinstance(value, str):  # CityLearn converts words here, and only here
        with contextlib.suppress(ValueError):
            value = float(value)
    if value is None or value == math.inf:
        return None
    if plain_number(path, value) < 0:
        raise ValueError(f"{path} {value}: expected at least 0")
    return float(value)


def shown(value: Any) -> str:
    """A value in a message."""
    return "missing" if value is None else str(value)
