"""The project's own rules: pinned versions, import direction, module names and sizes, documented commands."""

import ast
import re
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from iquitos_rl.env import TESTED_CITYLEARN

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "iquitos_rl"
MAX_MODULE_LINES = 450

# A module imports from its own subpackage and from lower layers, never from a neighbour in its own layer.
LAYERS_FROM_BELOW = (
    ("config",),
    ("objectives",),
    ("kpis",),
    ("tables", "files", "versions"),
    ("site",),
    ("env",),
    ("algorithms",),
    ("control",),
    ("evaluation",),
    ("training",),
    ("checks",),
    ("bench",),
    ("service",),
    ("cli",),
    ("__main__",),
)
LAYERS = {part: height for height, parts in enumerate(LAYERS_FROM_BELOW) for part in parts}


def declared_requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    return [Requirement(line) for line in chain.from_iterable(lists)]


def constraint_lines() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def pinned_versions() -> dict[str, str]:
    pins = (line.split("==") for line in constraint_lines())
    return {canonicalize_name(name): version for name, version in pins}


def imported_parts(source: str, package: list[str]) -> Iterator[tuple[int, str]]:
    """Yield (line, part) for each `iquitos_rl.<part>` that a module in `package` imports, at any depth."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - (node.level - 1)] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "iquitos_rl" else [base]
        else:
            continue
        for name in names:
            head, *rest = name.split(".")
            if head == "iquitos_rl" and rest and rest[0] != "__version__":
                yield node.lineno, rest[0]


def wrong_way_imports(path: Path, source: str) -> list[str]:
    """Describe each import of the module at `path` (relative to the package) that points the wrong way."""
    own = path.with_suffix("").parts[0]
    wrong = []
    for line, part in imported_parts(source, ["iquitos_rl", *path.parent.parts]):
        if own == "__init__":
            wrong.append(f"__init__.py:{line} imports {part}: importing iquitos_rl must load nothing else")
        elif part != own and LAYERS.get(part, 99) >= LAYERS.get(own, 0):
            wrong.append(f"{path}:{line} imports {part}, which is not below {own}")
    return wrong


PACKAGE_MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def test_every_requirement_has_a_pin_within_its_range():
    pins = pinned_versions()
    for requirement in declared_requirements():
        name = canonicalize_name(requirement.name)
        assert name in pins, f"constraints.txt has no version of {name}"
        assert requirement.specifier.contains(pins[name]), f"{name}=={pins[name]} is outside {requirement}"


def test_constraints_hold_names_and_versions_only():
    name_and_version = re.compile(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*")
    assert [line for line in constraint_lines() if not name_and_version.fullmatch(line)] == []
    assert len(pinned_versions()) == len(constraint_lines()), "a package is pinned twice"


def test_citylearn_is_pinned_but_not_a_declared_requirement():
    assert pinned_versions()["citylearn"] == "3.0.2"
    assert "citylearn" not in {canonicalize_name(requirement.name) for requirement in declared_requirements()}


def test_the_code_names_the_pinned_citylearn():
    assert pinned_versions()["citylearn"] == TESTED_CITYLEARN


def test_every_module_belongs_to_a_layer():
    parts = {path.with_suffix("").parts[0] for path in PACKAGE_MODULES} - {"__init__"}
    assert parts <= LAYERS.keys(), f"give each a layer in LAYERS_FROM_BELOW: {sorted(parts - LAYERS.keys())}"


def test_imports_point_one_way():
    sources = {path: (PACKAGE / path).read_text() for path in PACKAGE_MODULES}
    assert [line for path, source in sources.items() for line in wrong_way_imports(path, source)] == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("site/sun.py", "from iquitos_rl.env import make_env"),
        ("site/sun.py", "import iquitos_rl.training.tuner"),
        ("site/sun.py", "from iquitos_rl import cli"),
        ("site/sun.py", "from ..env import make_env"),
        ("site/sun.py", "from .. import env"),
        ("site/sun.py", "def late():\n    from iquitos_rl.env import make_env"),
        ("algorithms/a2c.py", "from iquitos_rl.control import NoControl"),
        ("config/reward.py", "from iquitos_rl.objectives import OBJECTIVES"),
        ("__init__.py", "from .config import Reward"),
    ],
)
def test_an_import_the_wrong_way_is_found(path, source):
    assert len(wrong_way_imports(Path(path), source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("env/batch.py", "from iquitos_rl.site import Dataset\nfrom . import reward\nfrom .reward import J"),
        ("env/batch.py", "from iquitos_rl import __version__, config\nimport numpy.typing"),
        ("site/__init__.py", "from .sun import irradiance\nfrom iquitos_rl.site.load import load_kwh"),
        ("cli.py", "from .service import submit\nfrom iquitos_rl.training import train"),
    ],
)
def test_an_import_the_right_way_passes(path, source):
    assert wrong_way_imports(Path(path), source) == []


def test_no_module_is_a_drawer():
    drawers = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert [str(path) for path in PACKAGE_MODULES if drawers & set(path.with_suffix("").parts)] == []


def test_no_module_is_too_long_to_read():
    folders = (PACKAGE, ROOT / "tests", ROOT / "experiments")
    modules = [path for folder in folders for path in folder.rglob("*.py")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in modules}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_MODULE_LINES} == {}


def test_documented_make_commands_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"setup", "train", "test", "lint", "bench", "clean", "help"} <= targets
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        code = re.findall(r"```.*?```|`[^`\n]+`", page.read_text(), re.DOTALL)
        documented = set(re.findall(r"(?:^|[`\s])make ([a-z]+)", "\n".join(code)))
        assert documented <= targets, f"{page.name} documents {sorted(documented - targets)}"
