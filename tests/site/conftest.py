"""Small sites that build in a tenth of a second, and datasets made of them."""

import json
import shutil
from pathlib import Path

import pytest

from iquitos_rl.config.loading import load_site
from iquitos_rl.config.site import SiteConfig
from iquitos_rl.site import build_dataset

SITES = Path(__file__).parents[2] / "ray_configs" / "sites"


@pytest.fixture(scope="session")
def station():
    return load_site(SITES / "iquitos_station.yaml")


@pytest.fixture(scope="session")
def mall():
    return load_site(SITES / "iquitos_mall.yaml")


@pytest.fixture(scope="session")
def site_with(station):
    """Makes the station with 5 + 1 sockets, everything scaled down to them, and any section replaced."""

    def make(**changes):
        data = station.model_dump(mode="json")
        data["name"] = "small_site"
        for kind, count in zip(data["sockets"], (5, 1), strict=True):
            kind["count"] = count
        data["feeder_limit_kw"] = 7.7
        data["load"]["annual_kwh"] = 19_000
        data["pv"] |= {"nominal_power_kwp": 24, "inverter_power_kw": 20}
        data["bess"] |= {"capacity_kwh": 30, "nominal_power_kw": 15}
        data["years"] = {"train": 1, "validation": 1, "test": 1}
        for key, value in changes.items():
            data[key] = data[key] | value if isinstance(value, dict) else value
        return SiteConfig.model_validate_json(json.dumps(data))

    return make


@pytest.fixture(scope="session")
def small_site(site_with):
    return site_with()


@pytest.fixture(scope="session")
def v2g_site(site_with, station):
    moto = station.sockets[0].model_dump(mode="json")
    v2g = {**moto, "name": "v2g", "count": 2, "discharge_power_kw": 2.0}
    return site_with(sockets=[{**moto, "count": 3}, v2g])


@pytest.fixture(scope="session")
def dataset(small_site, tmp_path_factory):
    """A dataset that no test may change."""
    return build_dataset(small_site, tmp_path_factory.mktemp("data") / "small", seed=5)


@pytest.fixture(scope="session")
def csv_dataset(small_site, tmp_path_factory):
    """The same as CSV."""
    return build_dataset(small_site, tmp_path_factory.mktemp("data") / "csv", seed=5, table_format="csv")


@pytest.fixture
def copied(dataset, tmp_path):
    """A copy of the dataset, to break."""
    shutil.copytree(dataset.path, tmp_path / "copy")
    return tmp_path / "copy"
