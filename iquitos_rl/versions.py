"""What a result was made with."""

from __future__ import annotations

import importlib.metadata
import platform

__all__ = ["versions"]

LIBRARIES = (
    "iquitos-rl",
    "ray",
    "torch",
    "citylearn",
    "gymnasium",
    "numpy",
    "scipy",
    "pandas",
    "pydantic",
    "pvlib",
)


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of the libraries that numbers may depend on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
