"""Years of small sites (tests/small_site.py), built once; no test may change them."""

import pytest

from iquitos_rl.env.batch.years import load_years
from iquitos_rl.site import build_dataset
from tests.small_site import small_site, v2g_site

SITES = {
    "plain": small_site,
    "no_pv": lambda: small_site(pv=None),
    "no_bess": lambda: small_site(bess=None),
    "no_feeder": lambda: small_site(feeder_limit_kw=1000.0),
    "v2g": v2g_site,
    "standby": lambda: small_site(bess={"standby_loss_per_hour": 0.001}),
    "wear": lambda: small_site(bess={"capacity_loss_coefficient": 1e-5}),
}


@pytest.fixture(scope="session")
def dataset_of(tmp_path_factory):
    """The dataset of one of `SITES`."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = build_dataset(SITES[name](), tmp_path_factory.mktemp("sites") / name, seed=5)
        return made[name]

    return get


@pytest.fixture(scope="session")
def years_of(dataset_of):
    """The test year of one of `SITES`."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = load_years([dataset_of(name).schema_path("test", 0)])
        return made[name]

    return get


@pytest.fixture(scope="session")
def years(years_of):
    """The plain site's test year: PV, a BESS, three sockets."""
    return years_of("plain")


@pytest.fixture(scope="session")
def no_control(dataset_of):
    """What no control does in that year."""
    return dataset_of("plain").no_control("test", 0)
