"""Where checkpoints go: whether an agent's folder can be written, without leaving anything in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from iquitos_rl.checks.check import CheckFailed, CheckSkipped
from iquitos_rl.config import RunConfig

__all__ = ["check_folder"]

PROBE_BYTES = 1 << 16


def check_folder(run: RunConfig, algorithm: str) -> str:
    """A checkpoint-like folder can be written, read back and removed where the agent's checkpoints go.

    That is the newest trial's folder if the experiment has begun, else one that is made and removed again.

    Raises:
        CheckFailed: it cannot be written, or what is read is not what was written.
        CheckSkipped: the run does not have the algorithm.
    """
    if getattr(run.algorithms, algorithm) is None:
        raise CheckSkipped(f"the run does not train {algorithm.upper()}")
    experiment = Path(run.storage_path).resolve() / run.name
    trials = sorted(folder for folder in experiment.glob(f"{algorithm}_*") if folder.is_dir())
    trial = trials[-1] if trials else experiment / f"{algorithm}_check-{os.getpid()}"
    content = os.urandom(PROBE_BYTES)
    try:
        with _folder(trial), _folder(trial / f".check-{os.getpid()}") as probe:
            file = probe / "checkpoint"
            with file.open("wb") as handle:
                handle.write(content)
                handle.flush()
                os.fsync(handle.fileno())  # a full disk or a lost network share may show only here
            same = file.read_bytes() == content
            free_gb = shutil.disk_usage(probe).free / 1e9
            file.unlink()
    except OSError as error:
        raise CheckFailed(
            f"{trial}: cannot write there ({error.strerror or error})",
            "choose a folder that can be written: --set storage_path=DIR",
        ) from None
    if not same:
        raise CheckFailed(f"{trial}: what was written is not what is read", "check the disk")
    return f"{os.path.relpath(trial if trials else experiment)}, {free_gb:,.0f} GB free"


@contextmanager
def _folder(folder: Path) -> Iterator[Path]:
    """A folder that is there; what had to be made for it is removed afterwards, parents included."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    made = []
    try:
        for parent in reversed(missing):
            with suppress(FileExistsError):  # made by another process meanwhile: not ours to remove
                parent.mkdir()
                made.append(parent)
        yield folder
    finally:
        for parent in reversed(made):
            with suppress(OSError):  # another process has put something there meanwhile
                parent.rmdir()
