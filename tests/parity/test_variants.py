"""On generated sites of every kind the batch engine equals CityLearn, whatever is asked of it.

`PARITY_EXAMPLES=2000 pytest tests/parity/test_variants.py -k anywhere` looks at new examples, and shrinks
what it finds; without it the examples are always the same.
"""

import os
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iquitos_rl.env import make_env
from tests.parity import actions
from tests.parity.pairs import UNIT, Pair
from tests.parity.variants import Choices, build, choices

pytestmark = pytest.mark.integration

SEARCH = settings(
    max_examples=int(os.environ.get("PARITY_EXAMPLES", "25")),
    derandomize="PARITY_EXAMPLES" not in os.environ,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
SEEDS = st.integers(0, 2**32 - 1)


def differences(folder, choices, seed, names, *, raw=True, mask_idle=True, steps=36):
    """Differences at the data's start, in its middle and up to its end, each under one of the actions."""
    variant = build(choices, seed)
    steps = min(steps, variant.steps)
    pair = Pair(variant.write(folder), raw=raw, mask_idle=mask_idle, episode_steps=steps)
    last = variant.steps - steps
    starts = [0, last // 2 + seed % 5 if last >= 10 else 0, last]
    lines = pair.interface_differences()
    for start, name in zip(starts, names, strict=True):
        lines += [f"{name} from {start}: {line}" for line in pair.differences(pair.record(name, start, seed))]
    return lines


THREE_ACTIONS = st.lists(st.sampled_from(actions.NAMES), min_size=3, max_size=3)


@SEARCH
@given(choices(), SEEDS, THREE_ACTIONS, st.booleans())
def test_raw_observations_and_all_energies_are_equal_anywhere(tmp_path_factory, site, seed, names, mask):
    folder = tmp_path_factory.mktemp("variant")
    assert differences(folder, site, seed, names, mask_idle=mask) == []


@SEARCH
@given(choices(raw=False), SEEDS, THREE_ACTIONS, st.booleans())
def test_features_are_equal_anywhere_even_if_vehicles_change_places(
    tmp_path_factory, site, seed, names, mask
):
    folder = tmp_path_factory.mktemp("variant")
    assert differences(folder, site, seed, names, raw=False, mask_idle=mask) == []


PLAIN = Choices(sockets=3)
KINDS = {
    "plain": PLAIN,
    "one socket": replace(PLAIN, sockets=1),
    "twelve sockets": replace(PLAIN, sockets=12),
    "rows before and after": replace(PLAIN, first_row=30, first_hour=17),
    "csv": replace(PLAIN, table_format="csv"),
    "no PV": replace(PLAIN, pv=False),
    "no BESS": replace(PLAIN, bess="none"),
    "curved BESS": replace(PLAIN, bess="curved"),
    "ageing BESS": replace(PLAIN, bess="worn"),
    "a site of megawatts": replace(PLAIN, large=True),
    "a site of megawatts, ageing BESS": replace(PLAIN, large=True, bess="worn"),
    "feeder of 0": replace(PLAIN, limit="zero"),
    "ample feeder": replace(PLAIN, limit="ample"),
    "no limit": replace(PLAIN, limit="none"),
    "no constraints": replace(PLAIN, limit="unconstrained"),
    "phases": replace(PLAIN, sockets=6, phases=3),
    "shown constraints": replace(PLAIN, phases=2, headroom=None, violation=None, phase_encoding=True),
    "V2G": replace(PLAIN, v2g=True),
    "V2G with curves": replace(PLAIN, v2g=True, charger_curves=True),
    "charger curves": replace(PLAIN, charger_curves=True),
    "least powers": replace(PLAIN, v2g=True, min_power=True),
    "curved vehicles": replace(PLAIN, vehicle="curved"),
    "lossy vehicles": replace(PLAIN, vehicle="lossy", v2g=True),
    "ageing vehicles": replace(PLAIN, vehicle="worn", v2g=True),
    "shared sockets": replace(PLAIN, sharing=True, vehicle="curved"),
    "a vehicle at several sockets": replace(PLAIN, roaming=True, v2g=True),
    "back-to-back": replace(PLAIN, gaps="none"),
    "back-to-back, no session ids": replace(PLAIN, gaps="none", session_ids="none"),
    "back-to-back, blank session ids": replace(PLAIN, gaps="none", session_ids="blank"),
    "back-to-back, one session id": replace(PLAIN, gaps="none", session_ids="same"),
    "announced arrivals": replace(PLAIN, gaps="long", announce=3),
    "named arrivals": replace(PLAIN, gaps="long", named=True),
    "current SOC": replace(PLAIN, current_soc=True),
    "fractions": replace(PLAIN, fractions=True),
    "full for days": replace(PLAIN, sockets=12, long_stays=True, extremes=True),
    "full for days, curved vehicles": replace(PLAIN, sockets=12, long_stays=True, vehicle="curved"),
    "extreme sessions": replace(PLAIN, extremes=True, vehicle="lossy"),
    "countdown to 0": replace(PLAIN, countdown_last=0, session_ids="none", gaps="none"),
    "few observations": replace(PLAIN, all_observations=False),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_site_alone(tmp_path, kind):
    names = ("extreme", "random", "discharge_bursts" if KINDS[kind].v2g else "least_laxity")
    assert differences(tmp_path, KINDS[kind], 11, names) == []


def test_another_vehicle_in_the_very_next_hour(tmp_path):
    site = replace(PLAIN, sharing=True, swaps=True, gaps="none", vehicle="lossy", v2g=True)
    names = ("extreme", "random", "discharge_bursts")
    assert differences(tmp_path, site, 3, names, raw=False) == []


def test_no_control_is_simulated_alike_where_no_reference_is_stored(tmp_path):
    schema = build(replace(PLAIN, hours=60), 2).write(tmp_path)
    pair = Pair(schema, raw=False, reference=None)
    assert pair.citylearn.reference != UNIT
    assert pair.interface_differences() == []
    assert pair.differences(pair.record("random", 0)) == []


def test_equal_seeds_choose_equal_windows_of_equal_years(tmp_path):
    first_year = build(PLAIN, 1)
    second_year = first_year.copy()
    second_year.table("building")["non_shiftable_load"] *= 2
    schemas = [first_year.write(tmp_path / "first"), second_year.write(tmp_path / "second")]
    for random_start in ("day", "hour"):
        options = {"random_start": random_start, "episode_steps": 20, "reference": UNIT, "seed_stream": 3}
        one, other = (make_env(schemas, engine=engine, **options) for engine in ("citylearn", "batch"))
        seen = []
        for seed in (5, None, None, None, 6, None):
            (first, told), (same, told_too) = one.reset(seed=seed), other.reset(seed=seed)
            assert told == pytest.approx(told_too)
            assert first == pytest.approx(same, abs=1e-4)
            seen.append((told["year"], told["start_step"]))
        assert len(set(seen)) > 2
