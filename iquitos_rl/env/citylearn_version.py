"""The CityLearn that this was tested with."""

from __future__ import annotations

__all__ = ["TESTED_CITYLEARN"]

TESTED_CITYLEARN = "3.0.2"
"""The version whose numbers the batch engine was compared with; `constraints.txt` pins the same."""
