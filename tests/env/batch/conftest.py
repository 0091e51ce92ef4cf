"""Generated sites of a few days (tests/parity/variants.py), written once; no test may change them."""

from dataclasses import replace

import pytest

from tests.parity.variants import Choices, build

PLAIN = Choices(sockets=3)
SITES = {
    "plain": PLAIN,
    "v2g": replace(PLAIN, v2g=True, charger_curves=True, vehicle="lossy", bess="curved"),
    "shared": replace(PLAIN, sockets=4, sharing=True, gaps="none", swaps=True, vehicle="curved", bess="none"),
    "worn": replace(PLAIN, vehicle="worn", bess="worn", min_power=True, phases=2, extremes=True),
}


@pytest.fixture(scope="session")
def schemas_of(tmp_path_factory):
    """Two years of one of `SITES`, the second with other vehicles, sessions and weather, and shorter."""
    made = {}

    def get(name):
        if name not in made:
            first = build(SITES[name], 1)
            second = build(replace(SITES[name], hours=70), 2)
            for part in ("electrical_storage", "chargers", "charging_constraints"):
                if part in first.building:
                    second.building[part] = first.building[part]
            made[name] = [year.write(tmp_path_factory.mktemp(name)) for year in (first, second)]
        return made[name]

    return get
