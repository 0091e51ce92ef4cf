"""The engine's hours: energy is conserved, limits hold, and no environment knows of any other."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iquitos_rl.config import RewardWeights
from iquitos_rl.env.batch.engine import Hour
from iquitos_rl.env.batch.flows import hourly_flows
from iquitos_rl.env.no_control import unit_reference
from iquitos_rl.objectives import OBJECTIVES
from tests.env.batch.conftest import PLAIN, SEARCH, SITES, engine_of
from tests.parity.variants import build, choices

HOURS = 24
SEEDS = st.integers(0, 2**32 - 1)
QUANTITIES = [field.name for field in fields(Hour)]
STATE = ("soc", "bess_soc", "occupied", "ready", "hours_left", "required_soc", "row", "year", "day_peak_kw")


def start(engine, years, rows):
    """Put all environments to their hours."""
    engine.reset(np.arange(engine.environments), np.asarray(years), np.asarray(rows))


def actions_for(engine, hours, seed):
    """Requests within the bounds: anything, nothing, or all that is possible."""
    random = np.random.default_rng(seed)
    low = [-1.0] * engine.has_bess + [-1.0 if gives else 0.0 for gives in engine.may_discharge]
    shape = (hours, engine.environments, len(low))
    drawn = np.where(random.random(shape) < 0.5, random.uniform(-1, 1, shape), random.integers(-1, 2, shape))
    return np.maximum(drawn, low).astype(np.float32)


def copied(hour):
    """An hour that the next one does not overwrite."""
    return {name: np.array(getattr(hour, name)) for name in QUANTITIES}


def run(engine, actions):
    """All quantities of some hours, and the observation after each."""
    rows = []
    for action in actions:
        rows.append(copied(engine.step(action)))
        rows[-1]["observation"] = engine.observe().copy()
    return rows


def state_of(engine):
    return {name: np.array(getattr(engine, name)) for name in STATE if getattr(engine, name) is not None}


@SEARCH
@given(choices(raw=False), SEEDS, st.booleans())
def test_in_every_hour_energy_is_conserved_and_limits_hold(tmp_path_factory, site, seed, mask_idle):
    schema = build(site, seed).write(tmp_path_factory.mktemp("site"))
    engine = engine_of([schema], 3, mask_idle=mask_idle)
    parameters = engine.years.parameters[0]
    hours = min(HOURS, parameters.rows - 3)
    start(engine, [0, 0, 0], [0, 1, parameters.rows - 1 - hours])
    floor, capacity = np.transpose([(v.floor_soc, v.capacity_kwh) for v in parameters.vehicles.values()])
    # Generated curves of chargers may promise a little more than all.
    best = max(1.0, *(y for charger in parameters.chargers for _, y in charger.charge_curve or ()), 0.0)
    peak = np.zeros(3)
    bess_soc = parameters.bess.initial_soc if parameters.bess else 0.0
    for action in actions_for(engine, hours, seed):
        before = state_of(engine)
        clock = engine.years.tables.hours[engine.row, -1]
        hour = engine.step(action)
        # Tables, sockets and BESS add up.
        sockets = hour.sockets_kwh.astype(float)
        expected = hour.load_kwh - hour.pv_kwh + sockets.sum(axis=1) + hour.bess_kwh
        assert hour.net_kwh == pytest.approx(expected, rel=1e-5, abs=1e-4)
        assert hour.row.tolist() == before["row"].tolist()
        # No more than the feeder, the ratings, and the requests of those that may have any.
        drawn = np.maximum(sockets, 0.0)
        if parameters.limit_kw is not None:
            assert (drawn.sum(axis=1) <= parameters.limit_kw * (1 + 1e-5) + 1e-6).all()
        for phase in parameters.phases:
            mine = [k for k, name in enumerate(engine.years.socket_names) if name in phase.sockets]
            if phase.limit_kw is not None:
                assert (drawn[:, mine].sum(axis=1) <= phase.limit_kw * (1 + 1e-5) + 1e-6).all()
        request = action[:, int(engine.has_bess) :]
        assert (drawn <= np.maximum(request, 0.0) * engine.chargers.rated_kw * (1 + 1e-5) + 1e-6).all()
        assert (sockets[request >= 0] >= 0).all()
        idle = ~(before["ready"] if mask_idle else before["occupied"])
        assert (sockets[idle] == 0).all()
        # States of charge stay within their batteries, and there is none without a vehicle.
        for soc in (hour.sockets_soc, engine.soc, hour.bess_soc):
            assert ((soc >= 0) & (soc <= 1)).all()
        assert (hour.sockets_soc[~before["occupied"]] == 0).all()
        assert (engine.soc[~engine.occupied] == 0).all()
        here = engine.years.tables.vehicle[before["row"]]
        assert (hour.sockets_soc >= np.where(here >= 0, floor[here], 0.0) - 1e-6).all()
        # What is lost at the BESS and at V2G sockets is what they took and do not hold; it is never gained.
        held = (hour.sockets_soc - np.maximum(before["soc"], floor[here])) * capacity[here]
        lost = np.where((here >= 0) & engine.chargers.may_discharge, sockets - held, 0.0).sum(axis=1)
        if parameters.bess is not None:
            lost += hour.bess_kwh - (hour.bess_soc - bess_soc) * parameters.bess.capacity_kwh
            bess_soc = hour.bess_soc.astype(float)
        assert hour.storage_loss_kwh == pytest.approx(lost, abs=1e-3)
        assert (hour.storage_loss_kwh >= -2e-5 * (1 + np.abs(hour.net_kwh))).all()
        peak = np.maximum(np.where(clock == 0, 0.0, peak), np.maximum(hour.net_kwh, 0.0))
        assert hour.day_peak_kw == pytest.approx(peak, rel=1e-6)
        assert hour.reward == pytest.approx(hour.components.sum(axis=1))
        assert (hour.components <= 1e-5 * (1 + np.abs(hour.net_kwh[:, None]))).all()
        assert (hour.unserved_kwh >= 0).all()
        assert ((hour.shortfall >= 0) & (hour.shortfall <= hour.departures)).all()
        flows = hourly_flows(engine)
        assert flows["grid_import_kwh"] - flows["grid_export_kwh"] == pytest.approx(hour.net_kwh, abs=1e-5)
        assert flows["ev_draw_kwh"] - flows["ev_discharge_kwh"] == pytest.approx(
            sockets.sum(axis=1), abs=1e-4
        )
        assert (flows["ev_delivered_kwh"] <= best * flows["ev_draw_kwh"] * (1 + 1e-5) + 1e-6).all()
    assert engine.at_end.tolist() == [False, False, True]


@SEARCH
@given(choices(raw=False), SEEDS, st.permutations(range(4)))
def test_environments_in_another_order_give_the_same_in_that_order(tmp_path_factory, site, seed, order):
    schema = build(site, seed).write(tmp_path_factory.mktemp("site"))
    one, other = engine_of([schema], 4), engine_of([schema], 4)
    rows = np.random.default_rng(seed).integers(0, one.years.rows[0] - 13, 4)
    start(one, [0] * 4, rows)
    start(other, [0] * 4, rows[order])
    actions = actions_for(one, 12, seed)
    for hour, same in zip(run(one, actions), run(other, actions[:, order]), strict=True):
        for name, values in hour.items():
            assert np.array_equal(values[order], same[name], equal_nan=True), name


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("mask_idle", [True, False])
def test_environments_at_other_hours_of_other_years_are_those_that_run_alone(schemas_of, site, mask_idle):
    random = np.random.default_rng(3)
    together = engine_of(schemas_of(site), 9, mask_idle=mask_idle)
    years = random.integers(0, 2, 9)
    rows = random.integers(0, together.years.rows[years] - HOURS - 1)
    years[:2], rows[:2] = (0, 1), together.years.rows - 1 - HOURS  # two of them up to the ends of their data
    start(together, years, rows)
    actions = actions_for(together, HOURS, 5)
    all_hours = run(together, actions)
    assert together.at_end.tolist() == [True, True] + [False] * 7
    alone = engine_of(schemas_of(site), 1, mask_idle=mask_idle)
    for i in range(9):
        start(alone, years[[i]], rows[[i]])
        for hour, same in zip(all_hours, run(alone, actions[:, [i]]), strict=True):
            for name, values in hour.items():
                assert np.array_equal(values[i], same[name][0], equal_nan=True), (i, name)


@pytest.mark.parametrize("site", SITES)
def test_environments_beyond_the_end_of_their_data_do_not_disturb_the_others(schemas_of, site):
    """Those that wait for their reset are stepped along."""
    last = 70 - 1 - 3
    together, alone = engine_of(schemas_of(site), 3), engine_of(schemas_of(site), 1)
    start(together, [1, 0, 1], [last, 5, last])
    start(alone, [0], [5])
    actions = actions_for(together, 12, 1)
    for hour, same in zip(run(together, actions), run(alone, actions[:, [1]]), strict=True):
        for name, values in hour.items():
            assert np.array_equal(values[1], same[name][0], equal_nan=True), name
    assert together.at_end.tolist() == [True, False, True]


@pytest.mark.parametrize("site", ["v2g", "worn"])
def test_after_the_last_hour_of_the_data_batteries_are_as_it_left_them(schemas_of, site):
    """CityLearn does not advance on it; after any other hour there are standby losses."""
    engine = engine_of(schemas_of(site), 2)
    parameters = engine.years.parameters
    floors = [np.array([v.floor_soc for v in year.vehicles.values()]) for year in parameters]
    first = engine.years.first_row
    start(engine, [0, 1], [95 - 8, 69 - 8])
    idle = np.zeros((2, len(engine.years.socket_names) + engine.has_bess), np.float32)
    idle[:, 0] = 0.3  # the BESS above its floor
    kept, lost = 0, 0
    for step in range(8):
        hour = copied(engine.step(idle))
        for i in range(2):
            row = first[i] + engine.row[i]
            vehicle = engine.years.tables.vehicle[row]
            stays = (engine.years.tables.stays[row] > 0) & (
                hour["sockets_soc"][i] > floors[i][vehicle] + 0.01
            )
            same = (engine.soc[i] == hour["sockets_soc"][i])[stays]
            assert same.all() if step == 7 else not same.any()
            kept += same.sum()
            lost += (~same).sum()
        if parameters[0].bess.loss_per_hour > 0:
            assert (engine.bess_soc == hour["bess_soc"]).all() == (step == 7)
    assert min(kept, lost) > 0
    assert engine.at_end.all()


@pytest.mark.parametrize("site", SITES)
def test_a_reset_of_some_leaves_the_others_as_they_are(schemas_of, site):
    engine, twin = engine_of(schemas_of(site), 5), engine_of(schemas_of(site), 5)
    actions = actions_for(engine, 14, 4)
    for either in (engine, twin):
        start(either, [0, 1, 0, 1, 0], [0, 3, 20, 30, 40])
        run(either, actions[:5])
    before = state_of(engine)
    chosen, others = np.array([3, 1]), [0, 2, 4]
    engine.reset(chosen, np.array([0, 1]), np.array([10, 50]))
    for name, values in state_of(engine).items():
        assert np.array_equal(values[others], before[name][others]), name
    assert engine.row.tolist() == [5, 50, 25, 10, 45]
    for hour, same in zip(run(engine, actions[5:]), run(twin, actions[5:]), strict=True):
        for name, values in hour.items():
            assert np.array_equal(values[others], same[name][others], equal_nan=True), name


@pytest.mark.parametrize("site", SITES)
def test_after_a_reset_nothing_is_left_of_the_episode_before(schemas_of, site):
    engine, fresh = engine_of(schemas_of(site), 2), engine_of(schemas_of(site), 2)
    actions = actions_for(engine, 15, 4)
    start(engine, [1, 1], [20, 30])
    run(engine, actions)
    for either in (engine, fresh):
        start(either, [0, 1], [7, 9])
    assert np.array_equal(engine.observe(), fresh.observe())
    for hour, same in zip(run(engine, actions), run(fresh, actions), strict=True):
        for name, values in hour.items():
            assert np.array_equal(values, same[name], equal_nan=True), name


def test_each_year_has_its_own_batteries(tmp_path):
    """The same sessions, the same energy: a battery of twice the size gains half the state of charge."""
    small = build(PLAIN, 1)
    large = small.copy()
    for vehicle in large.vehicles.values():
        vehicle["capacity"] *= 2
        vehicle["nominal_power"] *= 2
    engine = engine_of([small.write(tmp_path / "small"), large.write(tmp_path / "large")], 4)
    socket = int(np.argmax(engine.years.tables.occupied[:96].sum(axis=0)))
    capacity = small.vehicles[f"ev_{socket}_0"]["capacity"]
    start(engine, [1, 0, 1, 0], [0] * 4)  # met in the middle of a stay, or arriving later
    small_request = np.full((4, 3 + engine.has_bess), 0.02, np.float32)
    gained = 0
    for _ in range(60):
        before = engine.soc.copy()
        hour = copied(engine.step(small_request))
        rise = (hour["sockets_soc"] - before)[:, socket]
        assert rise[[0, 1]].tolist() == rise[[2, 3]].tolist()
        if rise[1] > 0 and hour["sockets_soc"][1, socket] < 0.9:
            gained += 1
            assert rise[0] == pytest.approx(rise[1] / 2, abs=1e-6)
            balance = hour["sockets_balance_kwh"][[0, 1], socket]
            assert rise[:2] * [2 * capacity, capacity] == pytest.approx(balance, rel=1e-3)
        assert hour["unserved_kwh"][0] >= hour["unserved_kwh"][1]
    assert gained > 5
    engine.reset(np.array([0]), np.array([0]), np.array([0]))  # the same environment, now of the other year
    start(engine, [0] * 4, [0] * 4)
    hour = engine.step(small_request)
    assert len(np.unique(hour.sockets_soc, axis=0)) == 1


def sharing(efficiencies):
    """A site of one socket at which two vehicles of these round-trip efficiencies take turns every hour."""
    site = build(replace(PLAIN, sockets=1, sharing=True, limit="none", bess="none"), 3)
    site.schema["electric_vehicles_def"] = {
        f"ev_{k}": {
            "include": True,
            "battery": {
                "type": "citylearn.energy_model.Battery",
                "autosize": False,
                "attributes": {
                    "capacity": 10.0,
                    "nominal_power": 8.0,
                    "efficiency": efficiency,
                    "power_efficiency_curve": [[0.0, efficiency], [1.0, efficiency]],
                    "capacity_power_curve": [[0.0, 1.0], [1.0, 1.0]],
                    "depth_of_discharge": 1.0,
                    "initial_soc": 0.5,
                    "loss_coefficient": 0.0,
                    "capacity_loss_coefficient": 0.0,
                },
            },
        }
        for k, efficiency in enumerate(efficiencies)
    }
    table = site.table("socket_0")
    rows = len(table["electric_vehicle_id"])
    table["electric_vehicle_charger_state"] = np.ones(rows, int)
    table["electric_vehicle_id"] = np.array([f"ev_{row % 2}" for row in range(rows)], object)
    table["electric_vehicle_session_id"] = np.array([f"s{row}" for row in range(rows)], object)
    table["electric_vehicle_departure_time"] = np.ones(rows)
    table["electric_vehicle_estimated_soc_arrival"] = np.full(rows, 50.0)
    return site


def test_what_a_vehicle_took_is_counted_with_its_own_efficiency(tmp_path):
    efficiencies = (0.64, 1.0)
    engine = engine_of([sharing(efficiencies).write(tmp_path)], 1)
    start(engine, [0], [0])
    for row in range(6):
        hour = engine.step(np.array([[0.2]], np.float32))
        gained = (hour.sockets_soc[0, 0] - 0.5) * 10.0
        assert gained == pytest.approx(
            hour.sockets_balance_kwh[0, 0] * efficiencies[row % 2] ** 0.5, rel=1e-5
        )
        assert hourly_flows(engine)["ev_delivered_kwh"] == pytest.approx([gained], rel=1e-5)


def test_hours_and_years_that_there_are_not_are_refused_and_nothing_changes(schemas_of):
    engine = engine_of(schemas_of("plain"), 2)
    start(engine, [0, 1], [5, 6])
    before = state_of(engine)
    for year, row, said in ((2, 0, "year"), (-1, 0, "year"), (0, -1, "row"), (0, 95, "row"), (1, 69, "row")):
        with pytest.raises(ValueError, match=said):
            engine.reset(np.array([0, 1]), np.array([0, year]), np.array([0, row]))
    assert all(np.array_equal(values, before[name]) for name, values in state_of(engine).items())
    engine.reset(np.array([0, 1]), np.array([0, 1]), np.array([94, 68]))  # the last hours
    engine.step(np.zeros((2, 4), np.float32))
    assert engine.at_end.all()


def test_before_the_first_hour_there_are_no_flows(schemas_of):
    engine = engine_of(schemas_of("plain"), 2)
    start(engine, [0, 0], [0, 0])
    assert engine.hour is None
    with pytest.raises(ValueError, match="no hour has been simulated"):
        hourly_flows(engine)


def test_the_engine_without_raw_says_how_to_have_it(schemas_of):
    with pytest.raises(ValueError, match="raw=True"):
        _ = engine_of(schemas_of("plain"), 1).raw_names


def test_weights_and_reference_scale_the_objectives(schemas_of):
    weights = RewardWeights(
        co2_weight=0.1,
        solar_weight=0.2,
        cost_weight=0.3,
        ev_satisfaction_weight=0.3,
        grid_stability_weight=0.1,
    )
    reference = replace(unit_reference(), objectives=(2.0, 4.0, 8.0, 16.0, 32.0), steps=10)
    plain = engine_of(schemas_of("plain"), 2)
    scaled = engine_of(schemas_of("plain"), 2, weights=weights, reference=reference)
    later = engine_of(schemas_of("plain"), 2, weights=weights)
    later.reference = reference
    actions = actions_for(plain, 30, 2)
    runs = []
    for engine in (plain, scaled, later):
        start(engine, [0, 1], [0, 3])
        runs.append(run(engine, actions))
    divisors = reference.divisors_per_step
    for hour, other, same in zip(*runs, strict=True):
        assert np.array_equal(hour["increments"], other["increments"])
        assert other["components"] == pytest.approx(-hour["increments"] * weights.as_tuple() / divisors)
        assert np.array_equal(other["reward"], same["reward"])
    assert len(OBJECTIVES) == runs[0][0]["components"].shape[1]
