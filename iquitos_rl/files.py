"""Writing result files so that an interruption leaves the old file or the new one, never half of one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["replace_file", "write_json"]


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make the file under a temporary name beside it, then put it in the place of ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write plain values as JSON, in the place of what is there."""
    text = json.dumps(value, indent=1) + "\n"
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
