"""Who is connected, and with what state of charge a vehicle arrives: CityLearn's rules, on tables by hand."""

from pathlib import Path

import numpy as np
import pytest

from iquitos_rl.env.batch.schema import (
    BatteryParameters,
    ChargerParameters,
    SiteParameters,
    UnsupportedSchemaError,
)
from iquitos_rl.env.batch.tables import read_charger_tables, read_site_tables
from iquitos_rl.site.errors import DatasetError
from iquitos_rl.site.storage import write_table

STEADY = ((0.0, 1.0), (1.0, 1.0))
NONE = float("nan")
HERE, COMING, AWAY = 1, 2, 3
INITIAL = 0.4


def vehicle(initial=INITIAL, capacity_loss=0.0):
    return BatteryParameters(10.0, 5.0, STEADY, STEADY, 0.0, initial, 0.0, capacity_loss)


def site(folder, sockets, *, vehicles=("ev", "other"), first_row=0, rows=None, suffix="parquet", **changes):
    """Parameters of a site whose sockets have the given tables; each column is a list."""
    chargers = []
    for number, columns in enumerate(sockets):
        table = folder / f"socket_{number}.{suffix}"
        write_table({f"electric_vehicle_{name}": values for name, values in columns.items()}, table)
        chargers.append(ChargerParameters(f"socket_{number}", table, 4.0, 0.0, 0.0, 0.0, 1.0, None, None))
    if isinstance(vehicles, tuple):
        vehicles = {name: vehicle() for name in vehicles}
    given = {
        "schema": folder / "schema.json",
        "first_row": first_row,
        "rows": rows or len(next(iter(sockets[0].values()))) - first_row,
        "site_table": folder / f"building.{suffix}",
        "weather_table": folder / f"weather.{suffix}",
        "pricing_table": None,
        "carbon_table": None,
        "pv_kwp": 0.0,
        "pv_is_energy": False,
        "bess": None,
        "chargers": tuple(chargers),
        "vehicles": vehicles,
        "limit_kw": None,
        "phases": (),
        "constrained": False,
        "observed_headroom": False,
        "observed_violation": False,
        "observed_phases": False,
        "observations": (),
        "socket_observations": frozenset(),
    }
    return SiteParameters(**{**given, **changes})


def socket(states, names, soc, countdown=None, required=None, **more):
    """A socket's table. ``names`` is one vehicle for all rows that are not blank, or a list."""
    rows = len(states)
    if isinstance(names, str):
        names = [names if state == HERE else "" for state in states]
    return {
        "charger_state": states,
        "id": names,
        "departure_time": countdown or [NONE] * rows,
        "required_soc_departure": required or [NONE] * rows,
        "estimated_arrival_time": [NONE] * rows,
        "estimated_soc_arrival": [float(value) for value in soc],
        **more,
    }


def read(folder, *sockets, **options):
    return read_charger_tables(site(folder, sockets, **options))


def shown(column):
    """Values of one socket with None for NaN, to be compared as a list."""
    return [None if np.isnan(value) else round(float(value), 4) for value in column[:, 0]]


STAYS = None
"""What `new_soc` says of a vehicle that was here the hour before."""


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_stay_by_hand(tmp_path, suffix):
    tables = read(
        tmp_path,
        socket(
            [AWAY, HERE, HERE, HERE, AWAY],
            "ev",
            [30, 55, NONE, NONE, NONE],
            countdown=[NONE, 3, 2, 1, NONE],
            required=[NONE, 90, 90, 80, NONE],
        ),
        suffix=suffix,
    )
    assert tables.vehicle[:, 0].tolist() == [-1, 0, 0, 0, -1]
    assert tables.state[:, 0].tolist() == [3, 1, 1, 1, 3]
    assert tables.hours_left[:, 0].tolist() == [-1, 3, 2, 1, -1]
    assert shown(tables.required_soc) == [-0.1, 0.9, 0.9, 0.8, -0.1]
    # The row before announces 30 %; an episode that begins with the arrival reads its own row.
    assert shown(tables.new_soc) == [0, 0.3, STAYS, STAYS, 0]
    assert shown(tables.start_soc) == [0, 0.55, INITIAL, INITIAL, 0]
    assert tables.new_soc.dtype == tables.start_soc.dtype == np.float32


@pytest.mark.parametrize(
    ("before", "arrives_with"),
    [(AWAY, 0.3), (COMING, 0.3), (4, 0.55), (0, 0.55)],
)
def test_a_free_socket_announces_the_arrivals_soc_and_any_other_state_does_not(
    tmp_path, before, arrives_with
):
    tables = read(tmp_path, socket([before, HERE, HERE], "ev", [30, 55, NONE]))
    assert shown(tables.new_soc)[1:] == [arrives_with, STAYS]


def test_the_datas_first_row_has_nobody_before_it(tmp_path):
    tables = read(tmp_path, socket([HERE, HERE], "ev", [55, NONE]))
    assert shown(tables.new_soc) == [0.55, STAYS]
    assert shown(tables.start_soc) == [0.55, INITIAL]


def test_fractions_and_percent_are_told_apart_value_by_value(tmp_path):
    tables = read(tmp_path, socket([AWAY, HERE, AWAY, HERE, AWAY, HERE], "ev", [30, 0, 0.7, 0, 1.0, 0]))
    assert shown(tables.new_soc)[1::2] == [0.3, 0.7, 1.0]


def test_more_than_full_is_full(tmp_path):
    tables = read(tmp_path, socket([AWAY, HERE], "ev", [130, 0]))
    assert shown(tables.new_soc) == [0, 1]


ONE_AFTER_THE_OTHER = [HERE, HERE, HERE, HERE]


@pytest.mark.parametrize(
    ("sessions", "countdown", "second_begins"),
    [
        (["a", "a", "b", "b"], [2, 1, 2, 1], True),
        (["a", "a", "b", "b"], [4, 3, 2, 1], True),  # the session's name decides, not the countdown
        (["a", "a", "a", "a"], [2, 1, 2, 1], False),
        (["", "", "", ""], [2, 1, 2, 1], True),  # without names the countdown decides
        (["", "", "", ""], [4, 3, 2, 1], False),
        (["a", "a", "", ""], [2, 1, 2, 1], True),  # one name is not enough
        (["", "", "b", "b"], [2, 1, 2, 1], False),
        ([" ", " ", "nan", " "], [2, 1, 2, 1], True),
        (None, [2, 1, 2, 1], True),
        (None, [1, 0, 2, 1], True),
        (None, [3, 2, 5, 4], False),  # a stay that is prolonged
        (None, [1, 1, 1, 1], False),
        (None, [NONE, NONE, 2, 1], True),
    ],
)
def test_when_a_vehicle_begins_another_session_without_leaving(tmp_path, sessions, countdown, second_begins):
    more = {} if sessions is None else {"session_id": sessions}
    tables = read(tmp_path, socket(ONE_AFTER_THE_OTHER, "ev", [50, NONE, 20, NONE], countdown, **more))
    # It comes from a socket that was not free, so its own row says with what it comes.
    assert shown(tables.new_soc) == [0.5, STAYS, 0.2 if second_begins else STAYS, STAYS]


def test_another_vehicle_in_the_very_next_hour_brings_its_own_soc(tmp_path):
    tables = read(tmp_path, socket([HERE] * 3, ["ev", "other", "other"], [50, 20, NONE], [1, 2, 1]))
    assert tables.vehicle[:, 0].tolist() == [0, 1, 1]
    assert shown(tables.new_soc) == [0.5, 0.2, STAYS]


def test_a_floating_point_state_never_connects_a_vehicle(tmp_path):
    tables = read(tmp_path, socket([3.0, 1.0, 1.0], ["", "ev", "ev"], [30, NONE, NONE]))
    assert tables.vehicle[:, 0].tolist() == [-1, -1, -1]
    assert shown(tables.state) == [None, None, None]
    assert shown(tables.new_soc) == shown(tables.start_soc) == [0, 0, 0]


def test_vehicles_that_the_schema_does_not_have_are_nobody(tmp_path):
    tables = read(tmp_path, socket([HERE, HERE, HERE], ["stranger", "ev", "stranger"], [10, 20, 30]))
    assert tables.vehicle[:, 0].tolist() == [-1, 0, -1]
    assert shown(tables.new_soc) == [0, 0.2, 0]


def test_a_row_that_only_names_a_vehicle_does_not_connect_it(tmp_path):
    tables = read(tmp_path, socket([AWAY, COMING, HERE], ["", "ev", "ev"], [NONE, 30, NONE]))
    assert tables.vehicle[:, 0].tolist() == [-1, -1, 0]
    assert tables.named[:, 0].tolist() == [-1, 0, 0]
    assert shown(tables.new_soc) == [0, 0, 0.3]


def test_a_present_soc_overrides_the_arrivals_and_is_overlooked_while_the_vehicle_stays(tmp_path):
    tables = read(
        tmp_path,
        socket(
            [AWAY, HERE, HERE, AWAY, HERE, HERE],
            "ev",
            [30, NONE, NONE, 30, NONE, NONE],
            current_soc=[NONE, 60, 70, 80, NONE, 0.9],
        ),
    )
    assert shown(tables.new_soc) == [0, 0.6, STAYS, 0, 0.3, STAYS]
    # A window that begins in the middle of a stay takes it where there is one.
    assert shown(tables.start_soc) == [0, 0.6, 0.7, 0, INITIAL, 0.9]


def test_an_episode_that_begins_in_a_stay_has_its_vehicles_initial_soc(tmp_path):
    vehicles = {"ev": vehicle(0.15), "other": vehicle(0.85)}
    tables = read(
        tmp_path, socket([HERE] * 4, ["ev", "ev", "other", "other"], [50, NONE, 20, NONE]), vehicles=vehicles
    )
    assert shown(tables.start_soc) == [0.5, 0.15, 0.2, 0.85]


def test_sockets_stand_side_by_side_in_the_order_of_the_schema(tmp_path):
    tables = read(
        tmp_path,
        socket([HERE, AWAY, AWAY], "other", [50, NONE, NONE]),
        socket([AWAY, HERE, HERE], "ev", [20, NONE, NONE]),
    )
    assert tables.vehicle.tolist() == [[1, -1], [-1, 0], [-1, 0]]
    assert tables.new_soc[:2] == pytest.approx(np.array([[0.5, 0], [0, 0.2]]))


def test_only_the_simulated_rows_are_read(tmp_path):
    table = socket(
        [HERE, AWAY, HERE, HERE, AWAY, HERE], "ev", [10, 20, 30, NONE, 50, 60], [1, NONE, 2, 1, NONE, 1]
    )
    tables = read(tmp_path, table, first_row=2, rows=3)
    assert tables.vehicle[:, 0].tolist() == [0, 0, -1]
    # The row before the simulation announces nothing: nobody has simulated it.
    assert shown(tables.new_soc) == [0.3, STAYS, 0]
    assert shown(tables.start_soc) == [0.3, INITIAL, 0]
    assert tables.hours_left[:, 0].tolist() == [2, 1, -1]


def test_a_table_that_ends_too_early_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"socket_0\.parquet: 3 rows, but"):
        read(tmp_path, socket([HERE] * 3, "ev", [50, NONE, NONE]), first_row=1, rows=4)


def test_a_table_that_is_missing_is_named(tmp_path):
    parameters = site(tmp_path, [socket([HERE], "ev", [50])])
    parameters.chargers[0].table.unlink()
    with pytest.raises(DatasetError, match=r"socket_0\.parquet: the file is missing"):
        read_charger_tables(parameters)


def test_an_announcement_of_another_vehicle_is_refused_as_citylearn_does(tmp_path):
    with pytest.raises(ValueError, match="row 0 announces other, but ev comes in row 1"):
        read(tmp_path, socket([COMING, HERE], ["other", "ev"], [30, NONE]))
    blank = socket([COMING, HERE], [" ", "ev"], [30, NONE])
    assert shown(read(tmp_path, blank).new_soc) == [0, 0.3]


@pytest.mark.parametrize("soc", [[NONE, 55, NONE], [-5, 55, NONE]])
def test_an_arrival_without_a_soc_is_refused(tmp_path, soc):
    with pytest.raises(
        UnsupportedSchemaError, match=r"arrivals without a state of charge \(socket_0, hour 1\)"
    ):
        read(tmp_path, socket([AWAY, HERE, HERE], "ev", soc))


def test_a_vehicle_at_two_sockets_at_once_is_refused(tmp_path):
    one = socket([HERE, HERE, AWAY], "ev", [50, NONE, NONE])
    with pytest.raises(UnsupportedSchemaError, match="vehicle ev at two sockets at once"):
        read(tmp_path, one, socket([AWAY, HERE, HERE], "ev", [20, NONE, NONE]))


def test_a_vehicle_that_changes_sockets_needs_an_hour_between(tmp_path):
    one = socket([HERE, HERE, AWAY, AWAY], "ev", [50, NONE, NONE, NONE])
    with pytest.raises(
        UnsupportedSchemaError, match="vehicle ev moving between sockets without an hour between"
    ):
        read(tmp_path, one, socket([AWAY, AWAY, HERE, HERE], "ev", [NONE, 20, NONE, NONE]))
    tables = read(tmp_path, one, socket([AWAY, AWAY, AWAY, HERE], "ev", [NONE, NONE, 20, NONE]))
    assert tables.vehicle.tolist() == [[0, -1], [0, -1], [-1, -1], [-1, 0]]


def test_a_vehicle_that_ages_may_not_share_its_socket(tmp_path):
    table = socket([HERE, AWAY, HERE], ["ev", "", "other"], [50, 20, NONE])
    ageing = {"ev": vehicle(capacity_loss=0.01), "other": vehicle()}
    with pytest.raises(
        UnsupportedSchemaError, match="vehicle ev: capacity loss of a vehicle that shares sockets"
    ):
        read(tmp_path, table, vehicles=ageing)
    alone = socket([HERE, AWAY, HERE], "ev", [50, 20, NONE])
    assert read(tmp_path, alone, vehicles=ageing).vehicle[:, 0].tolist() == [0, -1, 0]


def test_all_that_is_not_modelled_is_named_at_once(tmp_path):
    one = socket([HERE, HERE], ["ev", "other"], [50, 50])
    two = socket([HERE, AWAY], ["ev", ""], [50, NONE])
    ageing = {"ev": vehicle(), "other": vehicle(capacity_loss=0.01)}
    with pytest.raises(UnsupportedSchemaError) as caught:
        read(tmp_path, one, two, vehicles=ageing)
    assert len(caught.value.features) == 2


HOURS = {
    "hour": [23, 24, 1, 2],
    "day_type": [7, 7, 1, 1],
    "non_shiftable_load": [1.0, 2.0, 3.0, 4.0],
    "solar_generation": [0.0, 500.0, -1000.0, 250.0],
    "cooling_demand": [0.0] * 4,
    "heating_demand": [0.0] * 4,
    "dhw_demand": [0.0] * 4,
}


def site_of(folder, *, columns=HOURS, **changes):
    write_table(columns, folder / "building.parquet")
    return site(folder, [socket([AWAY] * 4, "ev", [NONE] * 4)], **changes)


def test_the_sites_series_by_hand(tmp_path):
    write_table({"electricity_pricing": [0.1, 0.2, 0.3, 0.4]}, tmp_path / "pricing.parquet")
    changes = {"pv_kwp": 8.0, "pricing_table": tmp_path / "pricing.parquet", "first_row": 1, "rows": 2}
    tables = read_site_tables(site_of(tmp_path, **changes))
    assert tables.hour.tolist() == [23, 0]
    assert tables.day_type.tolist() == [6, 0]
    assert tables.load_kwh.tolist() == [2, 3]
    assert tables.pv_kwh.tolist() == [4, 8]  # W per kW of 8 kW, and never below 0
    assert tables.price == pytest.approx([0.2, 0.3])
    assert tables.carbon_intensity.tolist() == [0, 0]  # no table
    assert {getattr(tables, name).dtype for name in ("pv_kwh", "load_kwh", "price")} == {np.dtype(np.float32)}


def test_a_pv_series_of_energy_is_taken_as_it_is(tmp_path):
    tables = read_site_tables(site_of(tmp_path, pv_kwp=8.0, pv_is_energy=True))
    assert tables.pv_kwh.tolist() == [0, 500, 1000, 250]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cooling_demand": [0.0, 0.0, 1.0, 0.0]}, "cooling_demand that is not zero"),
        ({"dhw_demand": [0.0, 0.0, 0.0, 0.1]}, "dhw_demand that is not zero"),
        ({"hour": [1, 1, 1, 1]}, "rows that are not an hour apart"),
        ({"minutes": [0, 0, 30, 0]}, "rows that do not start at the full hour"),
    ],
)
def test_a_site_with_heat_or_other_hours_is_refused(tmp_path, changes, said):
    with pytest.raises(UnsupportedSchemaError, match=said):
        read_site_tables(site_of(tmp_path, columns={**HOURS, **changes}))


def test_a_missing_site_table_is_named(tmp_path):
    with pytest.raises(DatasetError, match="missing"):
        read_site_tables(site(Path(tmp_path), [socket([AWAY], "ev", [NONE])]))
