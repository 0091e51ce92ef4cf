"""Generated sites of a few days (tests/parity/variants.py), written once; no test may change them."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from iquitos_rl.config import RewardWeights
from iquitos_rl.env.batch.engine import BatchEngine
from iquitos_rl.env.batch.years import load_years
from iquitos_rl.env.no_control import unit_reference
from tests.parity.variants import Choices, build

PLAIN = Choices(sockets=3)
SITES = {
    "plain": PLAIN,
    "v2g": replace(PLAIN, v2g=True, charger_curves=True, vehicle="lossy", bess="curved"),
    "shared": replace(PLAIN, sockets=4, sharing=True, gaps="none", swaps=True, vehicle="curved", bess="none"),
    "worn": replace(PLAIN, vehicle="worn", bess="worn", min_power=True, phases=2, extremes=True),
}


SEARCH = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def engine_of(schemas, environments, **options):
    """An engine of these years, with objectives in their own units unless the options say otherwise."""
    defaults: dict[str, Any] = {"weights": RewardWeights(), "reference": unit_reference()}
    return BatchEngine(load_years(schemas), environments, **(defaults | options))


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
