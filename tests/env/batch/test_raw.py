"""The raw observation is CityLearn's: same names, same order, same values, in every hour that can be seen."""

import json
import shutil

import numpy as np
import pytest
from citylearn.citylearn import CityLearnEnv

from iquitos_rl.config import RewardWeights
from iquitos_rl.env.batch import BatchEngine, UnsupportedSchemaError, load_years
from iquitos_rl.env.batch.raw import (
    MODELLED,
    SOCKET_OBSERVATIONS,
    VIOLATION,
    RawWriter,
    raw_names,
    raw_table,
)
from iquitos_rl.env.batch.schema import read_parameters
from iquitos_rl.env.batch.tables import read_charger_tables, read_site_tables
from iquitos_rl.env.no_control import unit_reference
from iquitos_rl.site.storage import read_table, write_table

ROWS = 8760
SOC = "connected_electric_vehicle_at_charger_{}_soc"


class Batch:
    """The batch engine and a writer; each environment has a window, from a start to the last row it sees."""

    def __init__(self, schemas, cache, environments=1):
        self.years = load_years(schemas, cache=cache)
        self.tables = [
            raw_table(p, read_site_tables(p), read_charger_tables(p)) for p in self.years.parameters
        ]
        self.engine = BatchEngine(
            self.years, environments, mask_idle=False, weights=RewardWeights(), reference=unit_reference()
        )
        self.engine.chargers.report = True
        self.writer = RawWriter(self.years, np.concatenate(self.tables), environments)
        self.start, self.last = (np.zeros(environments, np.intp) for _ in range(2))

    def reset(self, environments, year, start, last):
        environments, year, start = np.array(environments), np.array(year), np.array(start)
        self.engine.reset(environments, year, start)
        self.start[environments], self.last[environments] = start, last
        return self.observe()

    def observe(self):
        engine = self.engine
        return self.writer.write(
            self.years.first_row[engine.year] + engine.row,
            engine.year,
            engine.row - self.start,
            engine.row >= self.last,
            engine.hour,
            engine.chargers.granted_kw,
            engine.chargers.violation_kw,
        ).copy()

    def step(self, actions):
        self.engine.step(actions)
        return self.observe()


class Reference:
    """A bare CityLearnEnv; its windows, too, end with the last row they see."""

    def __init__(self, schema):
        description = json.loads(schema.read_text())
        self.first = description["simulation_start_time_step"]
        rows = description["simulation_end_time_step"] - self.first + 1
        self.env = CityLearnEnv(str(schema), central_agent=True, episode_time_steps=rows, offline=True)
        self.names = self.env.observation_names[0]
        (self.space,) = self.env.action_space

    def reset(self, start, last):
        self.env.episode_time_steps = [(self.first + start, self.first + last)]
        # Else it would begin with the last episode's; our environments do not, see docs/citylearn.md.
        self.env.buildings[0]._charging_constraint_last_penalty_kwh = 0.0
        return np.array(self.env.reset()[0][0], np.float32)

    def step(self, action):
        return np.array(self.env.step([action.tolist()])[0][0], np.float32)

    def actions(self, count, seed=0):
        """Random ones; none at all in some hours."""
        random = np.random.default_rng(seed)
        actions = random.uniform(self.space.low, self.space.high, (count, *self.space.shape))
        return actions * (random.random((count, 1)) < 0.9)


def assert_equal(batch, reference, names):
    far = np.abs(batch - reference) > 1e-4 * np.maximum(1, np.abs(reference))
    far |= np.isnan(batch) != np.isnan(reference)
    first = next(iter(np.argwhere(far)), None)
    assert first is None, (names[first[-1]], first, batch[tuple(first)], reference[tuple(first)])


def assert_same(schema, tmp_path, windows):
    """Random actions from the start of each window to its last row."""
    reference, batch = Reference(schema), Batch([schema], tmp_path / "cache")
    assert batch.writer.names == raw_names(batch.years.parameters[0]) == reference.names
    for seed, (start, last) in enumerate(windows):
        actions = reference.actions(last - start, seed)
        expected = [reference.reset(start, last), *(reference.step(action) for action in actions)]
        shown = [batch.reset([0], [0], [start], last)[0], *(batch.step(a[None])[0] for a in actions)]
        assert_equal(np.array(shown), np.array(expected), reference.names)
    return batch


def mid_session(schema):
    """An hour in which a vehicle is in the middle of its session."""
    vehicle = read_charger_tables(read_parameters(schema)).vehicle
    stays = (vehicle[1:] == vehicle[:-1]) & (vehicle[1:] >= 0)
    return 1 + int(np.flatnonzero(stays.any(axis=1))[20])


def before_arrival(schema):
    """An hour without a vehicle at a socket, followed by one with."""
    vehicle = read_charger_tables(read_parameters(schema)).vehicle
    comes = (vehicle[1:] >= 0) & (vehicle[:-1] < 0)
    return int(np.flatnonzero(comes.any(axis=1))[10])


@pytest.fixture
def edited(dataset, tmp_path):
    """A copy of the plain site's first year, changed; returns its schema."""

    def make(change=lambda schema, building: None, tables=None, name="year"):
        folder = tmp_path / name
        shutil.copytree(dataset.year_path("train"), folder)
        schema = json.loads((folder / "schema.json").read_text())
        (building,) = schema["buildings"].values()
        change(schema, building)
        (folder / "schema.json").write_text(json.dumps(schema))
        for file, edit in (tables or {}).items():
            frame = read_table(folder / file)
            edit(frame)
            write_table({str(name): values.to_numpy() for name, values in frame.items()}, folder / file)
        return folder / "schema.json"

    return make


def show_constraints(schema, building):
    """An edit: headroom and violation are observed."""
    building["charging_constraints"]["observations"] = {"headroom": True, "violation": True}


def sockets_table(name):
    return f"chargers/{name}.parquet"


@pytest.mark.integration
@pytest.mark.parametrize("site", ["plain", "no_pv", "no_bess", "v2g"])
def test_names_and_values_are_citylearns(site, dataset_of, tmp_path):
    schema = dataset_of(site).schema_path("train")
    middle, arrival = mid_session(schema), before_arrival(schema)
    windows = [(0, 30), (24, 90), (middle, middle + 30), (arrival, arrival + 30), (ROWS - 40, ROWS - 1)]
    assert_same(schema, tmp_path, windows)


@pytest.mark.integration
def test_the_observation_after_the_end_of_the_data_is_the_one_before_it(dataset, tmp_path):
    schema = dataset.schema_path("train")
    batch = assert_same(schema, tmp_path, [(ROWS - 2, ROWS - 1), (ROWS - 3, ROWS - 1)])
    assert np.array_equal(batch.observe(), batch.observe())


@pytest.mark.integration
@pytest.mark.parametrize("encoding", [False, True])
def test_headroom_violation_and_phases_are_shown_as_citylearn_shows_them(edited, tmp_path, encoding):
    def constrain(schema, building):
        first, second, third = building["chargers"]
        building["charging_constraints"]["phases"] = [
            {"name": "L2", "limit_kw": 1.1, "chargers": [first]},
            {"limit_kw": 2.0, "chargers": [third, "not_there"]},
            {"name": "L1", "limit_kw": None, "chargers": [second] if encoding else []},
            {"name": "L2", "limit_kw": 1.3, "chargers": [second]},
        ]
        building["charging_constraints"]["observations"] = {"phase_encoding": encoding}
        schema["observations"] |= {VIOLATION: {"active": False}, "hour": {"active": True}}

    assert_same(edited(constrain), tmp_path, [(0, 40), (31, 60), (ROWS - 2, ROWS - 1)])


@pytest.mark.integration
def test_every_observation_that_citylearn_reads_from_tables_can_be_active(edited, tmp_path):
    random = np.random.default_rng(1)
    names = sorted(MODELLED)
    random.shuffle(names)

    def show_all(schema, building):
        shown = [*names[:50], *reversed(SOCKET_OBSERVATIONS), *names[50:]]
        others = ("charging_phase_one_hot_none", "deferrable_appliance_power_kw")
        schema["observations"] = {name: {"active": True} for name in (*shown, *others)}
        building["inactive_observations"] = ["hour", "connected_electric_vehicle_at_charger_battery_capacity"]

    def add_columns(table):
        table["minutes"] = np.zeros(ROWS, int)
        table["power_outage"] = random.integers(0, 2, ROWS)
        table["hvac_mode"] = random.integers(0, 4, ROWS)
        table["comfort_band"] = random.uniform(1, 3, ROWS)
        table["indoor_relative_humidity"] = random.uniform(-20, 120, ROWS)
        table["indoor_dry_bulb_temperature"] = random.uniform(20, 70, ROWS)
        table["indoor_dry_bulb_temperature_cooling_set_point"] = random.uniform(20, 26, ROWS)

    schema = edited(show_all, {"building.parquet": add_columns})
    assert_same(schema, tmp_path, [(0, 30), (ROWS - 20, ROWS - 1)])


@pytest.mark.integration
def test_vehicles_are_shown_on_arrival_with_what_citylearn_gave_them_the_hour_before(edited, tmp_path):
    """It reads other rows for that than for the arrival itself."""

    def announce(table):
        state, soc = "electric_vehicle_charger_state", "electric_vehicle_estimated_soc_arrival"
        connected = table[state].to_numpy() == 1
        table.loc[~connected, "electric_vehicle_departure_time"] = 4.0
        table.loc[~connected, "electric_vehicle_required_soc_departure"] = 70.0
        for number, row in enumerate(1 + np.flatnonzero(connected[1:] & ~connected[:-1])):
            table.loc[row - 1, [soc]], table.loc[row, [soc]] = 31.0 + number % 7, 47.0 + number % 5
            vehicle = table["electric_vehicle_id"][row]
            if number % 3:
                table.loc[row - 1, "electric_vehicle_id"] = vehicle
            if number % 2:
                table.loc[row - 1, [state]] = 2
                table.loc[row - 1, ["electric_vehicle_estimated_arrival_time"]] = 1.0

    def show_announcements(schema, building):
        schema["observations"] |= {name: {"active": True} for name in SOCKET_OBSERVATIONS}
        for vehicle in schema["electric_vehicles_def"].values():
            vehicle["battery"]["attributes"] |= {"initial_soc": 0.62, "loss_coefficient": 0.01}

    schema = edited(show_announcements, {sockets_table("moto_001"): announce})
    arrival = before_arrival(schema)
    assert_same(schema, tmp_path, [(0, 150), (arrival, arrival + 40), (arrival + 1, arrival + 40)])


@pytest.mark.integration
def test_environments_in_different_hours_and_years_do_not_disturb_each_other(dataset, edited, tmp_path):
    """Each is a CityLearn of its own, with a district for each year."""

    def change_vehicles(schema, building):
        show_constraints(schema, building)
        for vehicle in schema["electric_vehicles_def"].values():
            vehicle["battery"]["attributes"]["initial_soc"] = 0.8

    schemas = [edited(show_constraints, name="one"), edited(change_vehicles, name="two")]
    arrival = before_arrival(schemas[0])
    batch = Batch(schemas, tmp_path / "cache", environments=3)
    references = [[Reference(schema) for schema in schemas] for _ in range(3)]
    random = np.random.default_rng(3)
    year = [0, 0, 0]
    for episode in range(8):
        begin = [k for k in range(3) if episode == 0 or random.random() < 0.6]
        for k in begin:
            year[k] = int(random.integers(2))
        starts = np.where(random.random(len(begin)) < 0.5, arrival, random.integers(0, ROWS - 100))
        if begin:
            shown = batch.reset(begin, [year[k] for k in begin], starts, ROWS - 1)
        for k, start in zip(begin, starts, strict=True):
            expected = references[k][year[k]].reset(int(start), ROWS - 1)
            assert_equal(shown[k], expected, batch.writer.names)
        for _ in range(int(random.integers(1, 5))):
            actions = random.uniform(0.3, 1, (3, *references[0][0].space.shape))
            shown = batch.step(actions)
            for k in range(3):
                expected = references[k][year[k]].step(actions[k])
                assert_equal(shown[k], expected, batch.writer.names)


def test_writing_an_hour_twice_changes_nothing(dataset, tmp_path):
    batch = Batch([dataset.schema_path("train")], tmp_path, environments=2)
    batch.reset([0, 1], [0, 0], [0, 31], ROWS - 1)
    for _ in range(4):
        shown = batch.step(np.full((2, 4), 0.7))
        assert np.array_equal(shown, batch.observe())
    assert np.array_equal(batch.reset([1], [0], [50], ROWS - 1)[0], shown[0])


def test_an_episode_begins_without_the_violation_that_ended_the_one_before(edited, tmp_path):
    batch = Batch([edited(show_constraints)], tmp_path / "cache")
    violation = batch.writer.names.index(VIOLATION)
    assert batch.reset([0], [0], [0], ROWS - 1)[0, violation] == 0
    seen = batch.step(np.ones((1, 4)))[0, violation]
    assert seen > 0
    assert batch.reset([0], [0], [48], ROWS - 1)[0, violation] == 0


def test_observations_that_are_not_modelled_are_refused_by_name(edited):
    def ask(schema, building):
        names = ("dhw_device_efficiency", "electric_vehicles_chargers_dict")
        schema["observations"] |= {name: {"active": True} for name in names}

    with pytest.raises(UnsupportedSchemaError) as error:
        raw_names(read_parameters(edited(ask)))
    assert error.value.features == (
        "observation dhw_device_efficiency",
        "observation electric_vehicles_chargers_dict",
    )


def swap_at(hour):
    """An edit: only two vehicles come to the socket, two hours each, the second one directly in this hour."""

    def swap(table):
        table["electric_vehicle_charger_state"] = 3
        table["electric_vehicle_id"] = table["electric_vehicle_session_id"] = ""
        first, last = max(hour - 2, 0), hour + 1
        table.loc[first:last, "electric_vehicle_charger_state"] = 1
        table.loc[first : hour - 1, "electric_vehicle_id"] = "ev_moto_001"
        table.loc[hour:last, "electric_vehicle_id"] = "ev_moto_002"
        table.loc[first:last, "electric_vehicle_departure_time"] = [2.0, 1.0, 2.0, 1.0][first - last - 1 :]
        table["electric_vehicle_required_soc_departure"] = 80.0
        table["electric_vehicle_estimated_soc_arrival"] = 40.0

    return swap


def clear(table):
    """An edit: nobody comes."""
    table["electric_vehicle_charger_state"] = 3
    table["electric_vehicle_id"] = table["electric_vehicle_session_id"] = ""


def tables_of(schema):
    parameters = read_parameters(schema)
    return parameters, read_site_tables(parameters), read_charger_tables(parameters)


def test_a_vehicle_directly_after_another_one_is_refused_since_it_is_shown_drifting(edited):
    tables = {sockets_table("moto_001"): swap_at(100), sockets_table("moto_002"): clear}
    with pytest.raises(UnsupportedSchemaError, match=r"drifts at random \(moto_001 hour 100\)"):
        raw_table(*tables_of(edited(tables=tables)))


@pytest.mark.integration
def test_in_the_second_hour_of_the_data_nothing_has_drifted_yet(edited, tmp_path):
    tables = {sockets_table("moto_001"): swap_at(1), sockets_table("moto_002"): clear}
    assert_same(edited(tables=tables), tmp_path, [(0, 6), (1, 6), (2, 6)])


def test_an_arrival_that_only_the_present_state_of_charge_tells_of_is_refused(edited):
    """It sets the state of charge on arrival, but not the one of the hour before, which is shown."""

    def tell(table):
        clear(table)
        table.loc[100:101, "electric_vehicle_charger_state"] = 1
        table.loc[100:101, "electric_vehicle_id"] = "ev_moto_001"
        table["electric_vehicle_estimated_soc_arrival"] = np.nan
        table["electric_vehicle_current_soc"] = np.where(table.index == 100, 45.0, np.nan)

    schema = edited(tables={sockets_table("moto_001"): tell})
    with pytest.raises(UnsupportedSchemaError, match="without a state of charge"):
        raw_table(*tables_of(schema))


def test_a_table_that_citylearn_would_not_take_is_refused(edited):
    schema = edited(tables={"weather.parquet": lambda table: table.insert(0, "wind", 1.0)})
    with pytest.raises(ValueError, match=r"weather\.parquet: CityLearn does not take this table .*wind"):
        raw_table(*tables_of(schema))


def test_years_that_show_different_things_are_refused(dataset, edited, tmp_path):
    def hide(schema, building):
        schema["observations"]["month"]["active"] = False

    schemas = [dataset.schema_path("train"), edited(hide)]
    years = load_years(schemas, cache=tmp_path / "cache")
    with pytest.raises(ValueError, match="other observations"):
        RawWriter(years, raw_table(*tables_of(schemas[0])), 1)
