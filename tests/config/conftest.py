"""The shipped files, and a place to write others."""

from pathlib import Path

import pytest

CONFIGS = Path(__file__).parents[2] / "ray_configs"


@pytest.fixture(scope="session")
def station_file():
    return CONFIGS / "sites" / "iquitos_station.yaml"


@pytest.fixture(scope="session")
def quick_file():
    return CONFIGS / "runs" / "quick.yaml"


@pytest.fixture(scope="session")
def report_file():
    return CONFIGS / "runs" / "train_report.yaml"


@pytest.fixture
def write(tmp_path):
    """Writes a file (text or bytes) into the test's folder and gives its path."""

    def make(content, name="written.yaml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return make
