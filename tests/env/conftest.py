"""Datasets of small sites (tests/small_site.py), built once; no test may change them."""

import pytest

from iquitos_rl.site import build_dataset
from tests.small_site import small_site, v2g_site

SITES = {
    "plain": small_site,
    "no_pv": lambda: small_site(pv=None),
    "no_bess": lambda: small_site(bess=None),
    "v2g": v2g_site,
}


@pytest.fixture(scope="session", params=["batch", pytest.param("citylearn", marks=pytest.mark.integration)])
def engine(request):
    """Each engine in turn, for what is true of the environment whatever simulates it."""
    return request.param


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
def dataset(dataset_of):
    """The plain site: PV, a BESS, three sockets; two training years."""
    return dataset_of("plain")
