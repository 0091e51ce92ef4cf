"""The files of a run: its manifest, and the results and summary after it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from iquitos_rl.config import RunConfig
from iquitos_rl.files import write_json
from iquitos_rl.site import Dataset
from iquitos_rl.versions import versions

__all__ = [
    "FAILURE",
    "AgentOutcome",
    "Manifest",
    "best_agent",
    "read_manifest",
    "write_manifest",
    "write_summary",
]

MANIFEST_FILE = "manifest.json"
SUMMARY_FILE = "summary.json"
FAILURE = "failure"
"""Key of a trial's results: why it cannot go on; empty while it can."""


@dataclass(frozen=True)
class AgentOutcome:
    """How an agent's training ended.

    Attributes:
        algorithm: a2c, sac or ppo.
        status: ``finished``, ``stopped`` (may go on) or ``failed``.
        env_steps: environment steps done.
        budget: environment steps wanted.
        training_seconds: over all sessions, validation included.
        checkpoint: newest checkpoint, None if there is none.
        trial: folder of the Tune trial.
        error: one line, if it failed.
    """

    algorithm: str
    status: str
    env_steps: int
    budget: int
    training_seconds: float
    checkpoint: str | None
    trial: str
    error: str | None = None


@dataclass(frozen=True)
class Manifest:
    """What a run was started with."""

    config: RunConfig
    dataset_fingerprint: str
    raw: Mapping[str, Any]


def _git_commit() -> str | None:
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None  # installed as a package, or no git
    return done.stdout.strip()


def write_manifest(folder: Path, run: RunConfig, dataset: Dataset, resources: Mapping[str, Any]) -> None:
    """Write ``manifest.json`` into the experiment's folder."""
    manifest = {
        "experiment": run.name,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "seed": run.seed,
        "dataset": {
            "path": str(dataset.path.resolve()),
            "seed": dataset.seed,
            "fingerprint": dataset.fingerprint,
        },
        "resources": dict(resources),
        "versions": versions(),
        "git_commit": _git_commit(),
        "config": run.model_dump(mode="json"),
    }
    write_json(folder / MANIFEST_FILE, manifest)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an experiment. Raises ValueError if there is none that can be read."""
    path = folder / MANIFEST_FILE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        config = RunConfig.model_validate_json(json.dumps(raw["config"]))
        return Manifest(config, raw["dataset"]["fingerprint"], raw)
    except FileNotFoundError:
        raise ValueError(f"{folder}: not an experiment, there is no {MANIFEST_FILE} in it") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{path}: not a manifest of this release ({reason})") from None


def best_agent(results: Sequence[Mapping[str, Any]], outcomes: Sequence[AgentOutcome]) -> str | None:
    """The agent with the lowest validation score among those whose service sufficed there.

    Chosen on the validation year only: the test year must not choose what it judges.
    """
    agents = {outcome.algorithm for outcome in outcomes}
    candidates = [
        (result["validation"]["score"], result["controller"])
        for result in results
        if result["controller"] in agents and (result.get("validation") or {}).get("meets_service")
    ]
    return min(candidates)[1] if candidates else None


def write_summary(
    folder: Path,
    run: RunConfig,
    outcomes: Sequence[AgentOutcome],
    results: Sequence[Mapping[str, Any]],
    evaluation_seconds: float,
) -> dict[str, Any]:
    """Write ``summary.json``: what ran, how it ended, how long it took, and which agent is best.

    The training time is that of the slowest agent over all sessions; each agent's own is beside it.
    """
    summary = {
        "experiment": run.name,
        "demonstration": run.demonstration,
        "agents": [asdict(outcome) for outcome in outcomes],
        "best_agent": best_agent(results, outcomes),
        "best_agent_rule": (
            "lowest validation score among agents whose validation satisfaction is at least "
            f"{run.validation.minimum_satisfaction:g}; null if there is none"
        ),
        "results": [f"result_{result['controller']}.json" for result in results],
        "seconds": {
            "training": max((outcome.training_seconds for outcome in outcomes), default=0.0),
            "evaluation": round(evaluation_seconds, 1),
        },
    }
    write_json(folder / SUMMARY_FILE, summary)
    return summary
