"""From YAML files to checked configuration, with errors a person can act on."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from iquitos_rl.config.base import StrictModel
from iquitos_rl.config.reward import RewardWeights
from iquitos_rl.config.run import RunConfig
from iquitos_rl.config.site import SiteConfig
from iquitos_rl.config.yaml_tree import ConfigError, ConfigTree, KeyPath

__all__ = ["load_reward", "load_run", "load_site", "validate"]

Model = TypeVar("Model", bound=StrictModel)

MAX_EXTENDS = 10


def load_site(path: str | Path, overrides: Sequence[str] = ()) -> SiteConfig:
    """The site in a YAML file. Raises ConfigError."""
    return _load(SiteConfig, path, overrides)


def load_reward(path: str | Path, overrides: Sequence[str] = ()) -> RewardWeights:
    """The reward weights in a YAML file. Raises ConfigError."""
    return _load(RewardWeights, path, overrides)


def _load(model: type[Model], path: str | Path, overrides: Sequence[str]) -> Model:
    tree = ConfigTree.from_file(Path(path))
    tree.override(overrides)
    return validate(model, tree)


def load_run(
    path: str | Path, overrides: Sequence[str] = (), algorithms: Sequence[str] | None = None
) -> RunConfig:
    """The run in a YAML file, its site, reward and algorithm files read in.

    Args:
        path: run YAML. ``extends: FILE`` takes another run and changes the keys that follow. ``site``,
            ``reward`` and each of ``algorithms`` are file names relative to the file that names them, or
            mappings (under ``extends``, a mapping changes keys of what the other run names; a file name
            replaces it).
        overrides: ``key.key=value`` assignments, applied last, e.g. ``algorithms.ppo.learning_rate=3e-4``.
        algorithms: keep only these of the run's algorithms.

    Raises:
        ConfigError: anything wrong, one line per problem.
    """
    tree = _run_tree(Path(path), ())
    tree.override(overrides)
    _read_references(tree, Path())  # --set site=FILE: relative to the working directory
    if algorithms is not None:
        present = tree.data.get("algorithms")
        present = present if isinstance(present, dict) else {}
        for name in algorithms:
            if name not in present:
                allowed = ", ".join(present) or "none"
                raise ConfigError(f"--algo {name}: not an algorithm of {path}; it has: {allowed}")
        tree.data["algorithms"] = {name: present[name] for name in present if name in algorithms}
    return validate(RunConfig, tree)


def _run_tree(path: Path, seen: tuple[Path, ...]) -> ConfigTree:
    if path.resolve() in seen or len(seen) > MAX_EXTENDS:
        raise ConfigError(f"{path}: extends: the files extend each other in a circle")
    tree = ConfigTree.from_file(path)
    base = tree.data.pop("extends", None)
    _read_references(tree, path.parent)
    if base is None:
        return tree
    if not isinstance(base, str):
        raise ConfigError(f"{path}: extends: {base!r} is not allowed: expected the name of a run file")
    base_path = Path(os.path.normpath(path.parent / base))
    if not _is_file(base_path):
        raise ConfigError(f"{path}: extends: {base!r} is not allowed: there is no file {base_path}")
    return tree.merge_over(_run_tree(base_path, (*seen, path.resolve())))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or has a zero byte in it
        return False


def _read_references(tree: ConfigTree, folder: Path) -> None:
    """Replace the file names in a run by what the files hold."""
    paths: list[KeyPath] = [("site",), ("reward",)]
    algorithms = tree.data.get("algorithms")
    if isinstance(algorithms, dict):
        paths += [("algorithms", name) for name in algorithms]
    for path in paths:
        try:
            value = tree.value(path)
        except KeyError:
            continue
        if isinstance(value, str):
            file = Path(os.path.normpath(folder / value))
            if not _is_file(file):
                source, key = tree.origin(path)
                raise ConfigError(f"{source}: {key}: {value!r} is not allowed: there is no file {file}")
            tree.graft(path, ConfigTree.from_file(file))


def validate(model: type[Model], tree: ConfigTree) -> Model:
    """Check a tree against a model.

    Raises:
        ConfigError: one line per problem: file, key, value, what is allowed.
    """
    try:
        # Through JSON, so that strict types still let a YAML list stand for a tuple.
        return model.model_validate_json(json.dumps(tree.data))
    except ValidationError as error:
        raise ConfigError("\n".join(_lines(model, tree, error.errors(include_url=False)))) from None


def _lines(model: type[BaseModel], tree: ConfigTree, errors: list[ErrorDetails]) -> list[str]:
    """One line for each place that is wrong; alternatives of a union are joined."""
    by_place: dict[KeyPath, list[str]] = {}
    placed = [(_data_path(tree, error), error) for error in errors]
    for place, error in placed:
        if _follows_from_another(place, error, placed):
            continue
        by_place.setdefault(place, []).append(_allowed(model, place, error))
    lines = []
    for place, allowed in by_place.items():
        file, key = tree.origin(place)
        file = " and ".join(tree.sources(place)) or file
        text = " or ".join(dict.fromkeys(allowed))
        try:
            value = tree.value(place)
        except KeyError:
            lines.append(f"{file}: {key}: {text}")
            continue
        shown = "" if isinstance(value, dict) else f"{_short(value)} is not allowed: "
        lines.append(f"{file}: {key + ': ' if key else ''}{shown}{text}")
    return lines


def _follows_from_another(
    place: KeyPath, error: ErrorDetails, placed: Sequence[tuple[KeyPath, ErrorDetails]]
) -> bool:
    """Whether the user hears of this through another line.

    pydantic counts only the good items of a list, so that one bad item makes the list too short as well. The
    settings of another algorithm (sac.yaml under ppo) have one mistake, the file, and not one per key.
    """
    if error["type"] == "too_short":
        return any(other[: len(place)] == place and other != place for other, _ in placed)
    kind = (*place[:2], "algorithm")
    return (
        place[:1] == ("algorithms",)
        and place != kind
        and any(other == kind and reason["type"] == "literal_error" for other, reason in placed)
    )


def _data_path(tree: ConfigTree, error: ErrorDetails) -> KeyPath:
    """Where in the data an error is: pydantic's location without the names of union alternatives."""
    path: KeyPath = ()
    parts = error["loc"]
    for position, part in enumerate(parts):
        longer = (*path, part)
        try:
            tree.value(longer)
        except KeyError:
            if error["type"] == "missing" and position == len(parts) - 1:
                path = longer
            continue
        path = longer
    return path


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _allowed(model: type[BaseModel], place: KeyPath, error: ErrorDetails) -> str:
    kind = error["type"]
    if kind == "extra_forbidden":
        fields = _fields_at(model, place[:-1])
        close = difflib.get_close_matches(str(place[-1]), fields, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        return f"unknown key; {hint}allowed: {', '.join(fields)}"
    if kind == "string_pattern_mismatch":
        return "must be a plain name: letters, digits and _, such as train_all"
    if kind == "missing":
        return "this key is missing"
    if kind == "value_error":
        return str(error["ctx"]["error"])
    text = error["msg"]
    text = text.replace("Input should be", "must be").replace("Tuple should", "it should")
    return text.replace("must be an object", "expected keys with values")


def _fields_at(model: type[BaseModel], path: KeyPath) -> list[str]:
    """Names of the keys a section may have."""
    current: type[BaseModel] | None = model
    for part in path:
        if isinstance(part, int):
            continue
        if current is None or part not in current.model_fields:
            return []
        current = _model_in(current.model_fields[part].annotation)
    return list(current.model_fields) if current is not None else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model inside ``X | None``, ``tuple[X, ...]`` and the like."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_in(argument)
        if found is not None:
            return found
    return None
