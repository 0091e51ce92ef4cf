"""Many batteries at once are CityLearn's batteries one by one; no energy appears or vanishes in them."""

from dataclasses import replace

import numpy as np
import pytest
from citylearn.base import EpisodeTracker
from citylearn.energy_model import Battery
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from iquitos_rl.env.batch.battery import BatteryBank, CurveTable
from iquitos_rl.env.batch.schema import BatteryParameters

SEARCH = settings(max_examples=40, deadline=None, derandomize=True, database=None)
FLAT = ((0.0, 1.0), (1.0, 1.0))
PLAIN = BatteryParameters(10.0, 4.0, ((0.0, 0.81), (1.0, 0.81)), FLAT, 0.0, 0.5, 0.0, 0.0)
HOURS = 8


def numbers(low, high):
    return st.floats(low, high, allow_subnormal=False).map(lambda x: round(x, 4))


def line(curve, x):
    """A curve, continued in a straight line beyond its ends."""
    xs, ys = np.transpose(curve)
    k = int(np.clip(np.searchsorted(xs, x) - 1, 0, len(xs) - 2))
    return float(ys[k] + (ys[k + 1] - ys[k]) * (x - xs[k]) / (xs[k + 1] - xs[k]))


@st.composite
def curves(draw, low, high):
    """Two to five points at least 0.15 apart, often short of 0 or of 1."""
    places = sorted(draw(st.sets(st.integers(0, 6), min_size=2, max_size=5)))
    shift, width = draw(st.sampled_from([(0.0, 1.0), (0.05, 0.9), (-0.1, 1.2)]))
    return tuple((shift + width * place / 6, draw(numbers(low, high))) for place in places)


@st.composite
def efficiency_curves(draw):
    """CityLearn refuses an efficiency above 1, and the square root needs one above 0."""
    if draw(st.booleans()):
        return tuple((x, draw(st.shared(numbers(0.5, 1.0), key="flat"))) for x in (0.0, 1.0))
    curve = draw(curves(0.6, 0.95))
    assume(all(0.3 < line(curve, x) <= 1 for x in (0.0, 1.0)))
    return curve


@st.composite
def batteries(draw):
    capacity = draw(numbers(0.5, 80.0))
    floor = 1.0 - draw(st.sampled_from([1.0, 1.0, 0.95, 0.7, 0.0]))  # of a depth of discharge
    return BatteryParameters(
        capacity_kwh=capacity,
        nominal_power_kw=capacity * draw(st.sampled_from([0.0, 0.1, 0.4, 1.0, 3.0])),
        efficiency_curve=draw(efficiency_curves()),
        power_curve=draw(curves(-0.1, 1.2)) if draw(st.booleans()) else FLAT,
        floor_soc=floor,
        initial_soc=max(floor, draw(numbers(0.0, 1.0))),
        loss_per_hour=draw(st.sampled_from([0.0, 0.0, 0.004, 0.2])),
        capacity_loss=draw(st.sampled_from([0.0, 0.0, 0.01, 0.2])),
    )


REQUESTS = st.one_of(st.just(0.0), numbers(-1.0, 1.0), st.sampled_from([-30.0, 1e-5, 30.0]))
"""Energy of an hour as a multiple of the capacity: none, some, or far too much."""


def citylearns(battery):
    """CityLearn's own battery, at the start of an episode."""
    tracker = EpisodeTracker(0, HOURS)
    tracker.next_episode(HOURS + 1, False, False, 0)
    made = Battery(
        capacity=battery.capacity_kwh,
        nominal_power=battery.nominal_power_kw,
        efficiency=0.9,
        power_efficiency_curve=[list(point) for point in battery.efficiency_curve],
        capacity_power_curve=[list(point) for point in battery.power_curve],
        depth_of_discharge=1.0 - battery.floor_soc,
        initial_soc=battery.initial_soc,
        loss_coefficient=battery.loss_per_hour,
        capacity_loss_coefficient=battery.capacity_loss,
        episode_tracker=tracker,
        seconds_per_time_step=3600,
        # A building hands NumPy's number to its batteries, which makes sums of theirs double precision.
        time_step_ratio=np.float64(1.0),
        random_seed=0,
    )
    made.reset()
    return made


def bank_of(chosen, shape=None, **options):
    """A bank with the batteries in its slots in order, at their initial states of charge."""
    bank = BatteryBank(chosen, shape or (len(chosen),), **options)
    slots = np.unravel_index(np.arange(len(chosen)), bank.soc.shape)
    bank.put(slots, np.arange(len(chosen)))
    bank.soc[slots] = [battery.initial_soc for battery in chosen]
    return bank


def pass_an_hour(bank):
    """Standby losses, as the engine applies them between two hours."""
    bank.soc = np.array(bank.stand_by())


@SEARCH
@given(st.lists(batteries(), min_size=1, max_size=4), st.data())
def test_every_hour_of_every_battery_is_citylearns(chosen, data):
    bank, references = bank_of(chosen), [citylearns(battery) for battery in chosen]
    capacity = bank.capacity_kwh.copy()
    for hour in range(HOURS):
        # Single precision rounds CityLearn's states: each hour is compared from equal ones.
        bank.soc[:] = [reference.soc[hour] for reference in references]
        energy = data.draw(st.lists(REQUESTS, min_size=len(chosen), max_size=len(chosen))) * capacity
        balance = bank.exchange(energy)
        for reference, request in zip(references, energy, strict=True):
            reference.charge(request)
        assert bank.soc == pytest.approx(np.array([r.soc[hour] for r in references]), abs=2e-6)
        balances = np.array([r.energy_balance[hour] for r in references])
        assert balance / capacity == pytest.approx(balances / capacity, abs=2e-6)
        efficiencies = np.array([r.round_trip_efficiency for r in references])
        assert np.broadcast_to(bank.root, (len(chosen),)) == pytest.approx(efficiencies, rel=1e-5)
        pass_an_hour(bank)
        for reference in references:
            reference.next_time_step()
        assert bank.soc == pytest.approx(np.array([r.soc[hour + 1] for r in references]), abs=2e-6)


@SEARCH
@given(st.lists(batteries(), min_size=1, max_size=3), st.data())
def test_exactly_means_citylearns_own_rounding_over_many_hours(chosen, data):
    bank, references = bank_of(chosen, exact=True), [citylearns(battery) for battery in chosen]
    for hour in range(HOURS):
        energy = data.draw(st.lists(REQUESTS, min_size=len(chosen), max_size=len(chosen))) * bank.capacity_kwh
        balance = bank.exchange(energy).copy()
        for reference, request in zip(references, energy.tolist(), strict=True):
            reference.charge(request)
        assert bank.soc.tolist() == [reference.soc[hour] for reference in references]
        balances = np.array([reference.energy_balance[hour] for reference in references])
        assert balance == pytest.approx(balances, rel=1e-7, abs=1e-7)
        pass_an_hour(bank)
        for reference in references:
            reference.next_time_step()
        assert bank.soc.tolist() == [reference.soc[hour + 1] for reference in references]


def test_a_worn_battery_holds_as_much_as_citylearns():
    worn = replace(PLAIN, capacity_loss=0.05, nominal_power_kw=20.0)
    bank, reference = bank_of([worn]), citylearns(worn)
    highest = []
    for energy in [-30.0, 30.0] * (HOURS // 2):
        bank.exchange(np.array([energy]))
        reference.charge(energy)
        hour = reference.time_step
        assert bank.soc[0] == pytest.approx(float(reference.soc[hour]), rel=1e-6)
        if energy > 0:
            highest.append(float(bank.soc[0]))
        reference.next_time_step()
    assert highest == sorted(highest, reverse=True)
    assert highest[-1] < 0.85
    # The last charge filled what was left before it.
    assert highest[-1] == pytest.approx(reference.capacity_history[-2] / worn.capacity_kwh, rel=1e-6)
    bank.put(np.array([0]), np.array([0]))  # a new battery
    bank.exchange(np.array([30.0]))
    assert bank.soc[0] == 1


@st.composite
def lean_batteries(draw):
    """Constant curves, no wear."""
    efficiency, share = draw(st.sampled_from([1.0, 0.9, 0.64])), draw(st.sampled_from([1.0, 0.5]))
    floor = 1.0 - draw(st.sampled_from([1.0, 1.0, 0.8]))
    return BatteryParameters(
        capacity_kwh=draw(numbers(0.5, 80.0)),
        nominal_power_kw=draw(numbers(0.0, 80.0)),
        efficiency_curve=((0.0, efficiency), (1.0, efficiency)),
        power_curve=((0.0, share), (1.0, share)),
        floor_soc=floor,
        initial_soc=max(floor, draw(numbers(0.0, 1.0))),
        loss_per_hour=draw(st.sampled_from([0.0, 0.0, 0.004, 0.2])),
        capacity_loss=0.0,
    )


PRECISIONS = pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-6), (np.float32, 2e-6)])


@PRECISIONS
@SEARCH
@given(chosen=st.lists(lean_batteries(), min_size=1, max_size=4), data=st.data())
def test_charging_only_is_exchanging_and_citylearns(dtype, tolerance, chosen, data):
    charged, exchanged = bank_of(chosen, dtype=dtype), bank_of(chosen, dtype=dtype)
    references = [citylearns(battery) for battery in chosen]
    for hour in range(HOURS):
        shares = np.abs(data.draw(st.lists(REQUESTS, min_size=len(chosen), max_size=len(chosen))))
        energy = (shares * charged.capacity_kwh).astype(dtype)
        one, other = charged.charge(energy).copy(), exchanged.exchange(energy)
        capacity = charged.capacity_kwh
        assert one / capacity == pytest.approx(other / capacity, abs=tolerance)
        assert charged.soc == pytest.approx(exchanged.soc, abs=tolerance)
        for k, reference in enumerate(references):
            reference.charge(energy[k])
            assert charged.soc[k] == pytest.approx(float(reference.soc[hour]), abs=HOURS * tolerance)
            assert one[k] / capacity[k] == pytest.approx(
                reference.energy_balance[hour] / capacity[k], abs=HOURS * tolerance
            )
            reference.next_time_step()
        pass_an_hour(charged)
        pass_an_hour(exchanged)


@PRECISIONS
@SEARCH
@given(data=st.data())
def test_energy_is_conserved_and_stays_within_the_battery(dtype, tolerance, data):
    lean = data.draw(st.booleans())
    chosen = data.draw(st.lists(lean_batteries() if lean else batteries(), min_size=4, max_size=4))
    bank = bank_of(chosen, (2, 2), dtype=dtype)
    floor = np.reshape([battery.floor_soc for battery in chosen], (2, 2))
    for _ in range(4):
        before = np.maximum(bank.soc, floor) * bank.capacity_kwh
        energy = np.reshape(data.draw(st.lists(REQUESTS, min_size=4, max_size=4)), (2, 2)) * bank.capacity_kwh
        balance = bank.exchange(energy).astype(float)
        after = bank.soc * bank.capacity_kwh
        held = np.where(balance >= 0, balance * bank.root, balance / bank.root)
        assert (after - before) / bank.capacity_kwh == pytest.approx(
            held / bank.capacity_kwh, abs=4 * tolerance
        )
        assert bank.held_kwh(balance.astype(np.float32)) == pytest.approx(held, rel=1e-5, abs=1e-9)
        assert (bank.soc <= 1).all()
        assert (bank.soc >= floor - tolerance).all()
        # Never more than was asked for or the power curve allows, never the other way.
        rounding = 1e-6 * bank.capacity_kwh
        assert (np.abs(balance) <= np.abs(energy) + rounding).all()
        assert (balance * np.sign(energy) >= -rounding).all()
        for battery, start, moved in zip(chosen, before.ravel(), np.abs(balance).ravel(), strict=True):
            share = max(0.0, line(battery.power_curve, start / battery.capacity_kwh))
            assert moved <= share * battery.nominal_power_kw + 1e-5 * battery.capacity_kwh
        pass_an_hour(bank)
        assert (bank.soc >= floor - tolerance).all()


@SEARCH
@given(
    st.lists(lean_batteries(), min_size=3, max_size=3), st.lists(numbers(0.0, 2.0), min_size=3, max_size=3)
)
def test_what_is_in_one_slot_changes_no_other(chosen, shares):
    alone = [bank_of([battery]) for battery in chosen]
    together = bank_of(chosen)
    for sign in (1, -1, 1):
        energy = sign * np.array(shares) * together.capacity_kwh
        together.exchange(energy)
        for k, bank in enumerate(alone):
            bank.exchange(energy[[k]])
            assert together.soc[k] == bank.soc[0]


@pytest.mark.parametrize("parameters", [PLAIN, replace(PLAIN, efficiency_curve=FLAT, loss_per_hour=0.1)])
def test_empty_slots_stay_empty(parameters):
    bank = BatteryBank([parameters], (2, 2))
    bank.put(np.ix_([0, 1], [0, 1]), np.zeros((2, 2), np.intp))
    bank.soc[0, 1] = 0.5
    offered = np.array([[0.0, 2.0], [0.0, 0.0]])
    for act in (bank.charge, bank.exchange):
        balance = act(offered)
        assert (balance > 0).tolist() == [[False, True], [False, False]]
        assert (bank.soc > 0).tolist() == [[False, True], [False, False]]
        pass_an_hour(bank)
        assert (bank.soc > 0).tolist() == [[False, True], [False, False]]


@pytest.mark.parametrize("options", [{}, {"dtype": np.float32}, {"exact": True}])
@pytest.mark.parametrize("share", [0.0, 0.05, 30.0, -0.05, -30.0])
def test_a_battery_below_its_floor_is_lifted_to_it_for_nothing(share, options):
    """CityLearn does so with a vehicle that arrives emptier than its battery may be."""
    low = replace(PLAIN, floor_soc=0.25, initial_soc=0.25)
    bank, reference = bank_of([low], **options), citylearns(low)
    reference.force_set_soc(0.1)
    bank.soc[0] = 0.1
    balance = bank.exchange(np.array([share * 10.0]))
    reference.charge(share * 10.0)
    assert bank.soc[0] == pytest.approx(float(reference.soc[0]), abs=1e-6)
    assert balance[0] == pytest.approx(float(reference.energy_balance[0]), abs=1e-5)
    assert bank.soc[0] >= 0.25


def test_one_hour_by_hand():
    bank = bank_of([PLAIN, replace(PLAIN, floor_soc=0.4), replace(PLAIN, initial_soc=0.95)])
    # 0.81 round trip is 0.9 one way: of 2 kWh 1.8 are held; of 2 kWh asked 1 above the floor gives 0.9; the
    # last one takes 0.5 / 0.9.
    assert bank.exchange(np.array([2.0, -2.0, 2.0])) == pytest.approx([2.0, -0.9, 0.5 / 0.9])
    assert bank.soc == pytest.approx([0.68, 0.4, 1.0])
    assert bank.root == pytest.approx([0.9] * 3)


def test_standby_losses_spare_the_floor_and_what_is_empty():
    lossy = replace(PLAIN, loss_per_hour=0.1)
    bank = bank_of([lossy, replace(lossy, floor_soc=0.48), replace(lossy, initial_soc=0.0)])
    assert bank.stand_by() == pytest.approx([0.45, 0.48, 0.0])
    assert bank.soc == pytest.approx([0.5, 0.5, 0.0])  # the caller decides what becomes of it


@SEARCH
@given(
    st.lists(curves(-1.0, 2.0), min_size=1, max_size=4), st.lists(numbers(-0.5, 1.5), min_size=1, max_size=6)
)
def test_curves_go_on_beyond_their_ends_unless_clamped(chosen, places):
    which = np.tile(np.arange(len(chosen)), (len(places), 1))
    value = np.repeat(np.array(places)[:, None], len(chosen), axis=1)
    straight, clamped = CurveTable(chosen), CurveTable(chosen, clamped=True)
    expected = [[line(curve, x) for curve in chosen] for x in places]
    assert straight(value, straight.of_battery[which]) == pytest.approx(np.array(expected), abs=1e-9)
    interpolated = [[np.interp(x, *np.transpose(curve)) for curve in chosen] for x in places]
    assert clamped(value, clamped.of_battery[which]) == pytest.approx(np.array(interpolated), abs=1e-9)


@SEARCH
@given(batteries(), numbers(-0.2, 1.2))
def test_curves_are_citylearns(battery, x):
    made = citylearns(battery)
    table = CurveTable([battery.power_curve])
    most = table(np.array([x]), table.of_battery)[0] * battery.nominal_power_kw
    expected = made.get_max_input_power(energy_init=x * battery.capacity_kwh)
    assert most == pytest.approx(expected, abs=1e-9 * battery.capacity_kwh)


def test_at_a_curves_own_points_it_has_their_values():
    curve = ((0.1, 0.3), (0.4, 0.9), (0.8, 0.2))
    table = CurveTable([FLAT, curve])
    at = np.array([x for x, _ in curve])
    assert table(at, table.of_battery[[1, 1, 1]]) == pytest.approx([y for _, y in curve])


def test_a_table_knows_whether_all_its_curves_are_constant():
    low = ((0.0, 0.5), (0.3, 0.5), (1.0, 0.5))
    flat = CurveTable([FLAT, low, FLAT]).flat
    assert flat is not None
    assert flat.tolist() == [1, 0.5, 1]
    assert CurveTable([FLAT, ((0.0, 1.0), (1.0, 0.9))]).flat is None
