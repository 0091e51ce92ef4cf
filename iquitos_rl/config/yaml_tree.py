"""Reading YAML into a tree of plain values that remembers which file every value came from."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

__all__ = ["ConfigError", "ConfigTree", "KeyPath", "read_yaml"]

KeyPath = tuple[str | int, ...]

COMMAND_LINE = "--set"
"""Stands for a file name where a value came from the command line."""
MAX_BYTES = 1_000_000
"""No configuration is that large; a dataset given by mistake is refused before it is parsed."""


class ConfigError(ValueError):
    """A configuration that cannot be used. Its text has one line per problem, each complete in itself."""


class _Loader(yaml.SafeLoader):
    """YAML as engineers write it: 1e-4 is a number, 2024-01-01 a string, a key given twice an error."""


_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_Loader.yaml_implicit_resolvers = {
    first: [(t, regexp) for t, regexp in resolvers if t not in (*_NUMBERS, "tag:yaml.org,2002:timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# Numbers as in YAML 1.2. In PyYAML's 1.1, 1e-4 is a text, 9:00 is 540 and 010 is 8.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9_]*)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


def _mapping_without_duplicates(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        mark = f"line {key_node.start_mark.line + 1}"
        if not isinstance(key, str):
            raise yaml.constructor.ConstructorError(None, None, f"{mark}: key {key!r} is not text")
        if key in mapping:
            raise yaml.constructor.ConstructorError(None, None, f"{mark}: key {key!r} is given twice")
        mapping[key] = loader.construct_object(value_node, deep=True)
    return mapping


def _list(loader: _Loader, node: yaml.SequenceNode) -> list[Any]:
    return loader.construct_sequence(node, deep=True)  # deep, so that a list within itself is refused


_PLAIN_KINDS = ("null", "bool", "int", "float", "str")
# Whatever else YAML can write (!!set, !!binary, !!timestamp ...) has no place in a configuration.
_Loader.yaml_constructors = {
    tag: constructor
    for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in _PLAIN_KINDS
}
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_SEQUENCE_TAG, _list)
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_duplicates)

_NOT_YAML = (yaml.YAMLError, ValueError, KeyError)  # PyYAML raises KeyError for "!!bool maybe"


def parse_value(text: str) -> Any:
    """A value as it would be read from YAML, for ``--set key=value``."""
    return yaml.load(text, Loader=_Loader)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: the file is missing, unreadable, not YAML, or holds anything but a mapping.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path}: {path.stat().st_size} bytes are too many for a configuration file")
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a directory, not a YAML file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file (expected YAML in UTF-8)") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply for a configuration file") from None
    except _NOT_YAML as error:
        if isinstance(error, ConfigError):
            raise
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{path}: not valid YAML: {place}{problem}") from None
    if data is None:
        raise ConfigError(f"{path}: the file is empty")
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected keys with values, found {_kind(data)}")
    return data


def _kind(value: Any) -> str:
    return {list: "a list", str: "a text", bool: "true/false"}.get(type(value), f"the value {value!r}")


@dataclass
class ConfigTree:
    """A configuration assembled from several files, with the origin of each value.

    Attributes:
        data: nested mappings and lists of plain values.
        origins: for a path into ``data``, the file it came from and the path within that file. A value's
            origin is that of the longest recorded path that leads to it.
        grafted: paths whose value is a whole file. It replaces what it is merged over, or a site file without
            a battery would get that of another site.
    """

    data: dict[str, Any]
    origins: dict[KeyPath, tuple[str, KeyPath]] = field(default_factory=dict)
    grafted: set[KeyPath] = field(default_factory=set)

    @classmethod
    def from_file(cls, path: Path) -> ConfigTree:
        """The tree of one file."""
        return cls(read_yaml(path), {(): (str(path), ())})

    def origin(self, path: KeyPath) -> tuple[str, str]:
        """File and dotted key of a path, as the user wrote them."""
        for length in range(len(path), -1, -1):
            found = self.origins.get(path[:length])
            if found is not None:
                file, inner = found
                return file, ".".join(str(part) for part in (*inner, *path[length:]))
        return "configuration", ".".join(str(part) for part in path)

    def sources(self, path: KeyPath) -> list[str]:
        """The files that have a part in the value at ``path``, the command line first.

        Of more than two, the command line, if it is one of them, and the file that holds the whole.
        """
        own = self.origin(path)[0]
        files = [file for known, (file, _) in self.origins.items() if known[: len(path)] == path]
        found = sorted(dict.fromkeys([*files, own]), key=lambda file: file != COMMAND_LINE)
        return found if len(found) <= 2 else [file for file in found if file in (COMMAND_LINE, own)]

    def value(self, path: KeyPath) -> Any:
        """The value at a path. Raises KeyError if there is none."""
        node: Any = self.data
        for part in path:
            in_mapping = isinstance(node, Mapping) and part in node
            in_list = isinstance(node, list) and isinstance(part, int) and 0 <= part < len(node)
            if not in_mapping and not in_list:
                raise KeyError(path)
            node = node[part]
        return node

    def graft(self, path: KeyPath, branch: ConfigTree) -> None:
        """Put another tree in the place of the value at ``path``."""
        self.value(path[:-1])[path[-1]] = branch.data
        self.grafted.add(path)
        self._forget(path)
        for inner, origin in branch.origins.items():
            self.origins[(*path, *inner)] = origin

    def merge_over(self, base: ConfigTree) -> ConfigTree:
        """This tree's values over those of ``base``: mappings are merged, all else (and a file) replaces."""
        merged = ConfigTree(copy.deepcopy(base.data), dict(base.origins))
        merged._merge((), self)
        return merged

    def _merge(self, path: KeyPath, over: ConfigTree) -> None:
        for key, value in over.value(path).items():
            here = (*path, key)
            mine = self.value(path).get(key)
            if isinstance(value, dict) and isinstance(mine, dict) and here not in over.grafted:
                self._merge(here, over)
            else:
                self.value(path)[key] = copy.deepcopy(value)
                self._forget(here)
                file, dotted = over._origin_of(here)
                self.origins[here] = (file, dotted)
                for inner, origin in over.origins.items():
                    if inner[: len(here)] == here:
                        self.origins[inner] = origin

    def _origin_of(self, path: KeyPath) -> tuple[str, KeyPath]:
        for length in range(len(path), -1, -1):
            if path[:length] in self.origins:
                file, inner = self.origins[path[:length]]
                return file, (*inner, *path[length:])
        return "configuration", path

    def _forget(self, path: KeyPath) -> None:
        for known in [known for known in self.origins if known[: len(path)] == path]:
            del self.origins[known]

    def override(self, assignments: Sequence[str]) -> None:
        """Apply ``key.key=value`` assignments; values are read as YAML, list items go by number.

        Raises:
            ConfigError: an assignment that is not of this form or leads through something that has no keys.
        """
        for assignment in assignments:
            dotted, separator, text = assignment.partition("=")
            names = dotted.strip().split(".")
            if not separator or not all(names):
                raise ConfigError(f"{COMMAND_LINE} {assignment}: expected key.key=value")
            try:
                value = parse_value(text)
            except (*_NOT_YAML, RecursionError):
                raise ConfigError(f"{COMMAND_LINE} {assignment}: {text!r} is not a YAML value") from None
            self._assign(assignment, names, value)

    def _assign(self, assignment: str, names: list[str], value: Any) -> None:
        node: Any = self.data
        path: KeyPath = ()
        for position, name in enumerate(names):
            last = position == len(names) - 1
            if isinstance(node, list):
                if not name.isdigit() or int(name) >= len(node):
                    allowed = f"a number from 0 to {len(node) - 1}"
                    raise ConfigError(f"{COMMAND_LINE} {assignment}: {name!r}: expected {allowed}")
                key: str | int = int(name)
            elif isinstance(node, dict):
                key = name
                if not last and node.get(key) is None:
                    node[key] = {}
            else:
                prefix = ".".join(names[:position])
                raise ConfigError(f"{COMMAND_LINE} {assignment}: {prefix} is {_kind(node)} and has no keys")
            path = (*path, key)
            if last:
                node[key] = value
                self._forget(path)
                self.origins[path] = (COMMAND_LINE, path)
            else:
                node = node[key]
