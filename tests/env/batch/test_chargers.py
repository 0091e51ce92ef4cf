"""Many sockets at once are CityLearn's chargers one by one, behind the limits that CityLearn sets them."""

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from citylearn.base import EpisodeTracker
from citylearn.electric_vehicle_charger import Charger
from citylearn.internal.building_ops import BuildingOpsService
from hypothesis import given, settings
from hypothesis import strategies as st

from iquitos_rl.env.batch.chargers import ChargerBank
from iquitos_rl.env.batch.schema import ChargerParameters, Curve, PhaseLimit

SEARCH = settings(max_examples=60, deadline=None, derandomize=True, database=None)
PLAIN = ChargerParameters("a", Path("none"), 4.0, 0.0, 0.0, 0.0, 0.95, None, None)
FULL_RANGE = ((0.0, 1.0), (1.0, 1.0))


def numbers(low, high):
    return st.floats(low, high, allow_subnormal=False).map(lambda x: round(x, 4))


@st.composite
def curves(draw) -> Curve:
    """Two to four points, often short of 0 or of 1."""
    places = sorted(draw(st.sets(st.integers(0, 8), min_size=2, max_size=4)))
    return tuple((place / 8, draw(numbers(0.6, 1.0))) for place in places)


@dataclass(frozen=True)
class Sockets:
    """Chargers and their limits."""

    chargers: tuple[ChargerParameters, ...]
    limit_kw: float | None
    phases: tuple[PhaseLimit, ...] = ()

    def bank(self, environments=1):
        return ChargerBank(self.chargers, self.limit_kw, self.phases, environments)


@st.composite
def sockets(draw, *, v2g: bool | None = None) -> Sockets:
    discharges = draw(st.booleans()) if v2g is None else v2g
    has_curves, has_least = draw(st.booleans()), draw(st.booleans())
    chargers = []
    for number in range(draw(st.integers(1, 5))):
        rated = draw(numbers(0.5, 20.0))
        back = draw(st.sampled_from([0.0, 0.5, 2.0])) * rated if discharges else 0.0
        chargers.append(
            ChargerParameters(
                name=f"s{number}",
                table=Path("none"),
                max_charging_kw=rated,
                min_charging_kw=draw(st.sampled_from([0.0, 0.2, 0.6, 2.0])) * rated if has_least else 0.0,
                max_discharging_kw=back,
                min_discharging_kw=draw(st.sampled_from([0.0, 0.3])) * back if has_least else 0.0,
                efficiency=draw(numbers(0.7, 1.0)),
                charge_curve=draw(st.none() | curves()) if has_curves else None,
                discharge_curve=draw(st.none() | curves()) if has_curves and discharges else None,
            )
        )
    rated_kw = sum(charger.max_charging_kw for charger in chargers)
    names = [charger.name for charger in chargers] + ["elsewhere"]
    limits = st.sampled_from([None, 0.0, 0.2, 0.6, 2.0])

    def limit():
        share = draw(limits)
        return None if share is None else share * rated_kw

    phases = tuple(
        PhaseLimit(f"L{number}", limit(), tuple(sorted(draw(st.sets(st.sampled_from(names))))))
        for number in range(draw(st.integers(0, 3)))
    )
    return Sockets(tuple(chargers), limit(), phases)


def actions_of(draw, site, environments=1):
    """Requests within the bounds: none, some, all; below 0 only where a socket may discharge."""
    kinds = st.sampled_from([0.0, 1.0, -1.0, 0.1]) | numbers(-1.0, 1.0)
    count = len(site.chargers)
    rows = draw(
        st.lists(
            st.lists(kinds, min_size=count, max_size=count), min_size=environments, max_size=environments
        )
    )
    low = [-1.0 if charger.max_discharging_kw > 0 else 0.0 for charger in site.chargers]
    return np.maximum(np.array(rows), low)


def tracker():
    episode = EpisodeTracker(0, 3)
    episode.next_episode(4, False, False, 0)
    return episode


class Bottomless:
    """A battery that takes and gives whatever its charger asks for."""

    def __init__(self):
        self.energy_balance = np.zeros(4, np.float32)

    def charge(self, energy_kwh):
        self.energy_balance[0] = energy_kwh


def citylearns(parameters):
    """CityLearn's own charger at the start of an episode, with a vehicle."""
    listed = [
        None if c is None else [list(p) for p in c]
        for c in (parameters.charge_curve, parameters.discharge_curve)
    ]
    charger = Charger(
        episode_tracker=tracker(),
        charger_simulation=None,
        charger_id=parameters.name,
        efficiency=parameters.efficiency,
        max_charging_power=parameters.max_charging_kw,
        min_charging_power=parameters.min_charging_kw,
        max_discharging_power=parameters.max_discharging_kw,
        min_discharging_power=parameters.min_discharging_kw,
        charge_efficiency_curve=listed[0],
        discharge_efficiency_curve=listed[1],
        seconds_per_time_step=3600,
    )
    charger.reset()
    charger.plug_car(SimpleNamespace(battery=Bottomless(), name="ev"))
    return charger


class Reference:
    """One environment: CityLearn's chargers behind CityLearn's limits."""

    def __init__(self, site):
        self.chargers = [citylearns(parameters) for parameters in site.chargers]
        self.recorded = {"violation_kwh": 0.0}
        self.building = SimpleNamespace(
            _charger_lookup={charger.charger_id: charger for charger in self.chargers},
            _building_charger_limit_kw=site.limit_kw,
            _phase_limits=[
                {"name": phase.name, "limit_kw": phase.limit_kw, "chargers": list(phase.sockets)}
                for phase in site.phases
            ],
            _expose_charging_constraints=True,
            _charging_constraints_state=None,
            _set_default_charging_headroom=lambda: None,
            _record_charging_constraint_state=lambda **values: self.recorded.update(values),
            seconds_per_time_step=3600,
        )

    def step(self, action):
        """Energy into the batteries and out of the site, each of shape (sockets,)."""
        named = dict(zip(self.building._charger_lookup, action.tolist(), strict=True))
        limited = BuildingOpsService(self.building)._apply_legacy_charging_constraints(named)
        for charger in self.chargers:
            charger.update_connected_electric_vehicle_soc(limited[charger.charger_id])
        balance = [charger.connected_electric_vehicle.battery.energy_balance[0] for charger in self.chargers]
        return np.array(balance), np.array([charger.electricity_consumption[0] for charger in self.chargers])

    @property
    def used_kw(self):
        """Charging power after the limits, or None if nothing was asked for."""
        state = self.building._charging_constraints_state
        return None if state is None else state["total_power_kw"]


@SEARCH
@given(sockets(), st.data())
def test_offers_draws_and_violations_are_citylearns(site, data):
    bank = site.bank()
    bank.report = True
    action = actions_of(data.draw, site)
    reference = Reference(site)
    balance, drawn = reference.step(action[0])
    offered = bank.offer(action)
    assert offered[0] == pytest.approx(balance, rel=1e-6, abs=1e-6)
    assert bank.drawn_kwh(balance[None].astype(np.float32))[0] == pytest.approx(drawn, rel=1e-6, abs=1e-6)
    assert bank.violation_kw[0] == pytest.approx(reference.recorded["violation_kwh"], rel=1e-6, abs=1e-5)
    if reference.used_kw is not None:
        assert bank.granted_kw.sum() == pytest.approx(reference.used_kw, rel=1e-6, abs=1e-6)


@SEARCH
@given(sockets(), st.data())
def test_no_power_above_a_rating_or_a_limit_is_granted(site, data):
    bank = site.bank(environments=3)
    action = actions_of(data.draw, site, environments=3)
    offered = bank.offer(action).astype(float)
    efficiency = np.array([max([c.efficiency, *(y for _, y in c.charge_curve or ())]) for c in site.chargers])
    rated = np.array([charger.max_charging_kw for charger in site.chargers])
    assert (bank.granted_kw >= 0).all()
    assert (bank.granted_kw <= np.maximum(action, 0.0) * rated * (1 + 1e-6)).all()
    assert (offered <= rated * efficiency * (1 + 1e-6)).all()
    groups = [(site.limit_kw, [charger.name for charger in site.chargers])]
    groups += [(phase.limit_kw, list(phase.sockets)) for phase in site.phases]
    for limit_kw, names in groups:
        mine = [k for k, charger in enumerate(site.chargers) if charger.name in names]
        if limit_kw is not None:
            assert (bank.granted_kw[:, mine].sum(axis=1) <= limit_kw * (1 + 1e-6) + 1e-9).all()
    # A vehicle is never asked for more than its socket gives back, nor offered less than the least power.
    back = np.array([charger.max_discharging_kw for charger in site.chargers])
    assert (offered >= -back / 0.6 * (1 + 1e-6)).all()
    least = np.array([min(c.min_charging_kw, c.max_charging_kw) for c in site.chargers]) * 0.6
    assert ((offered <= 0) | (offered >= least * (1 - 1e-6))).all()


@SEARCH
@given(sockets(), st.data())
def test_environments_do_not_share_a_feeder(site, data):
    together = site.bank(environments=3)
    action = actions_of(data.draw, site, environments=3)
    offered = together.offer(action).copy()
    balance = (0.9 * offered).astype(np.float32)
    drawn = together.drawn_kwh(balance).copy()
    for environment in range(3):
        alone = site.bank()
        assert np.array_equal(alone.offer(action[[environment]])[0], offered[environment])
        assert np.array_equal(alone.drawn_kwh(balance[[environment]])[0], drawn[environment])


@SEARCH
@given(sockets(v2g=True), st.data())
def test_what_a_socket_gives_and_takes_loses_energy_both_ways(site, data):
    bank = site.bank()
    offered = bank.offer(actions_of(data.draw, site))
    drawn = bank.drawn_kwh(offered.astype(np.float32)).astype(float)
    assert (np.sign(drawn) == np.sign(offered.astype(np.float32))).all()
    assert (drawn >= offered - 1e-6 * np.abs(offered)).all()


def test_requests_are_scaled_down_by_one_factor_empty_sockets_included():
    chargers = (PLAIN, replace(PLAIN, name="b", max_charging_kw=8.0), replace(PLAIN, name="c"))
    bank = ChargerBank(chargers, 6.0, (), 2)
    offered = bank.offer(np.array([[1.0, 0.5, 0.0], [0.5, 0.25, 0.5]]))
    assert bank.granted_kw == pytest.approx(np.array([[3.0, 3.0, 0.0], [2.0, 2.0, 2.0]]))
    assert offered == pytest.approx(0.95 * bank.granted_kw)


def test_phases_come_after_the_feeder_one_after_the_other():
    chargers = tuple(replace(PLAIN, name=name) for name in "abc")
    phases = (
        PhaseLimit("L1", 3.0, ("a", "b")),
        PhaseLimit("L2", 1.0, ("b", "c")),
        PhaseLimit("L3", None, ("a",)),
    )
    bank = ChargerBank(chargers, 9.0, phases, 1)
    bank.report = True
    bank.offer(np.ones((1, 3)))
    # 12 kW: 3 each behind the feeder; L1 halves a and b; L2 has 1.5 + 3 for 1 kW.
    assert bank.granted_kw[0] == pytest.approx([1.5, 1.5 / 4.5, 3 / 4.5])
    assert bank.violation_kw[0] == pytest.approx(3 + 3 + 3.5)


@pytest.mark.parametrize("limit_kw", [0.0, 6.0, None])
def test_a_request_for_nothing_gets_nothing(limit_kw):
    bank = ChargerBank((PLAIN, replace(PLAIN, name="b")), limit_kw, (), 1)
    assert bank.offer(np.zeros((1, 2))).tolist() == [[0, 0]]
    assert bank.drawn_kwh(np.zeros((1, 2), np.float32)).tolist() == [[0, 0]]


def test_a_feeder_of_nothing_grants_nothing_and_is_violated_by_all():
    bank = ChargerBank((PLAIN, replace(PLAIN, name="b")), 0.0, (), 1)
    bank.report = True
    assert bank.offer(np.array([[1.0, 0.5]])).tolist() == [[0, 0]]
    assert bank.violation_kw.tolist() == [6]


@pytest.mark.parametrize(
    ("action", "limit_kw", "served"),
    [
        (0.4, None, [0, 0]),  # below the least power
        (0.5, None, [2, 0]),  # at it; the other one's is its rating
        (1.0, None, [4, 4]),
        (1.0, 6.0, [3, 0]),  # the limit takes the other one below its least power: what it leaves is wasted
        (0.6, 2.0, [2, 0]),
        (0.6, 1.9, [0, 0]),
    ],
)
def test_below_its_least_power_a_socket_gives_nothing(action, limit_kw, served):
    chargers = (replace(PLAIN, min_charging_kw=2.0), replace(PLAIN, name="b", min_charging_kw=9.0))
    bank = ChargerBank(chargers, limit_kw, (), 1)
    assert bank.offer(np.full((1, 2), action))[0] == pytest.approx(0.95 * np.array(served))


def test_below_its_least_discharging_power_a_socket_takes_nothing():
    v2g = replace(PLAIN, max_discharging_kw=2.0, min_discharging_kw=1.0)
    offers = [ChargerBank((v2g,), None, (), 1).offer(np.array([[a]]))[0, 0] for a in (-0.4, -0.5, -1.0)]
    assert offers == pytest.approx([0, -1 / 0.95, -2 / 0.95])


def test_discharging_is_not_limited_by_the_feeder_and_gives_it_no_room():
    v2g = replace(PLAIN, max_discharging_kw=4.0)
    bank = ChargerBank((v2g, replace(v2g, name="b")), 2.0, (), 1)
    assert bank.offer(np.array([[-1.0, 1.0]]))[0] == pytest.approx([-4 / 0.95, 2 * 0.95])


def test_efficiency_curves_follow_the_power_behind_the_limit_and_end_level():
    curve = ((0.2, 0.6), (0.8, 0.9))
    back = ((0.0, 0.5), (1.0, 0.8))
    charger = replace(PLAIN, charge_curve=curve, discharge_curve=back, max_discharging_kw=4.0)
    bank = ChargerBank((charger,), 2.0, (), 5)
    offered = bank.offer(np.array([[0.1], [0.5], [1.0], [-0.5], [-1.0]]))
    # Behind the limit the third asks for 0.5 as well.
    assert offered[:, 0] == pytest.approx([0.4 * 0.6, 2 * 0.75, 2 * 0.75, -2 / 0.65, -4 / 0.8])
    drawn = bank.drawn_kwh(offered.astype(np.float32))
    assert drawn[:, 0] == pytest.approx([0.4, 2.0, 2.0, -2.0, -4.0], rel=1e-6)
    assert bank.charging_efficiency() == pytest.approx([0.9])
    assert ChargerBank((PLAIN,), None, (), 1).charging_efficiency() == pytest.approx([0.95])


def test_a_curve_from_an_efficiency_of_zero_gives_numbers():
    """CityLearn does not look at the curve where no power is asked for."""
    charger = replace(PLAIN, charge_curve=((0.0, 0.0), (0.5, 0.9), (1.0, 0.9)))
    bank = ChargerBank((charger, replace(charger, name="b")), 4.0, (), 1)
    offered = bank.offer(np.array([[0.0, 1.0]]))
    assert offered[0] == pytest.approx([0.0, 3.6])
    assert bank.drawn_kwh(offered.astype(np.float32))[0] == pytest.approx([0.0, 4.0])


def test_only_sockets_with_a_discharging_power_may_discharge():
    chargers = (
        PLAIN,
        replace(PLAIN, name="b", max_discharging_kw=2.0),
        replace(PLAIN, name="c", max_discharging_kw=-1.0),
    )
    bank = ChargerBank(chargers, None, (), 1)
    assert bank.may_discharge.tolist() == [False, True, False]
    assert bank.rated_kw.tolist() == [4, 4, 4]
