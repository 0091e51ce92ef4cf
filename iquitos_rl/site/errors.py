"""The one exception of this package."""

from __future__ import annotations

__all__ = ["DatasetError"]


class DatasetError(ValueError):
    """A dataset cannot be made or used. The message is one line that names the place and what to do."""
