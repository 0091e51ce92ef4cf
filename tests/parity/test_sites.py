"""On both shipped sites, in four windows of ten days each, the batch engine equals CityLearn.

`make verify` does the same for whole years (experiments/verify_parity.py).
"""

from pathlib import Path

import pytest

from iquitos_rl.config import load_site
from iquitos_rl.site import build_dataset
from tests.parity.pairs import Pair

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SITES = Path(__file__).parents[2] / "ray_configs" / "sites"
STEPS = 240
LAST = 8759 - STEPS
# first row, actions, whether idle sockets are masked; rows 18 and 19 of a day meet vehicles in mid-session
WINDOWS = {
    "iquitos_station": [
        (0, "random", False),
        (24 * 80 + 18, "extreme", True),
        (24 * 190 + 11, "least_laxity", False),
        (LAST, "no_control", True),
    ],
    "iquitos_mall": [
        (0, "sparse", True),
        (24 * 120 + 19, "plug_and_charge", False),
        (24 * 250 + 3, "random", True),
        (LAST, "extreme", False),
    ],
}


@pytest.fixture(scope="module", params=WINDOWS)
def site(request, tmp_path_factory):
    """Name of a site, and both engines on its test year; CityLearn takes 15 s to load, so only once."""
    years = ["years={train: 1, validation: 1, test: 1}"]
    config = load_site(SITES / f"{request.param}.yaml", years)
    dataset = build_dataset(config, tmp_path_factory.mktemp("sites") / request.param, 7)
    return request.param, Pair(dataset.schema_path("test"), reference=None, episode_steps=STEPS)


def test_both_engines_look_alike_before_the_first_step(site):
    assert site[1].interface_differences() == []


@pytest.mark.parametrize("number", range(4))
def test_ten_days_are_equal_hour_by_hour(site, number):
    name, pair = site
    start, actions, mask_idle = WINDOWS[name][number]
    pair.set_mask(mask_idle)
    recording = pair.record(actions, start, seed=number)
    # It is a real window: vehicles, the sun and the battery all did something.
    assert recording["info.ev_departures"].sum() > 1000
    assert recording["sockets_kwh"].sum() > 1000
    assert recording["pv_kwh"].sum() > 1000
    assert recording["terminated"][-1] == (start == LAST)
    assert pair.differences(recording) == []
