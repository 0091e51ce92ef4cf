import json
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iquitos_rl.site import build_dataset, load_dataset, validate_dataset
from iquitos_rl.site.storage import read_json, write_json

YEAR = "train/year_0"
MOTO = f"{YEAR}/chargers/moto_001.parquet"
STATE = "electric_vehicle_charger_state"
VEHICLE = "electric_vehicle_id"
COUNTDOWN = "electric_vehicle_departure_time"
REQUIRED = "electric_vehicle_required_soc_departure"
ARRIVAL = "electric_vehicle_estimated_soc_arrival"
SESSION = "electric_vehicle_session_id"


def edit(folder, name, change):
    """Rewrite a table with pandas, as a user would."""
    table = pd.read_parquet(folder / name)
    changed = change(table)
    (table if changed is None else changed).to_parquet(folder / name)


def edit_json(folder, name, change):
    data = read_json(folder / name)
    change(data)
    write_json(data, folder / name)


def put(column, row, value):
    def change(table):
        if isinstance(value, str):
            table[column] = table[column].astype(str)
        table.loc[row, column] = value

    return change


def arrival_row(folder, *, dwell=3):
    """A row of moto_001 in which a vehicle arrives after a gap, to stay a while."""
    table = pd.read_parquet(folder / MOTO)
    state = table[STATE].to_numpy()
    rows = np.flatnonzero((state[1:] == 1) & (state[:-1] == 3)) + 1
    return int(next(row for row in rows if table[COUNTDOWN][row] >= dwell))


def test_a_built_dataset_has_nothing_to_find(dataset, csv_dataset):
    for made in (dataset, csv_dataset):
        report = validate_dataset(made.path)
        assert report.findings == ()
        assert report.exit_code == 0
        assert report.tables == 3 * (4 + 6 + 1)


def test_every_kind_of_site_is_valid(site_with, v2g_site, station, tmp_path):
    moto = station.sockets[0].model_dump(mode="json")
    sites = {
        "no_pv": site_with(pv=None),
        "no_bess": site_with(bess=None),
        "neither": site_with(pv=None, bess=None),
        "v2g": v2g_site,
        "one_socket": site_with(sockets=[{**moto, "count": 1}]),
        "to_midnight": site_with(
            opening_hours=[9, 24], sessions={"required_soc": 0.0, "arrival_soc": [0.0, 0.02]}
        ),
        "no_sessions": site_with(sessions={"arrivals": [{"hours": [9, 10], "probability": 0.0}]}),
        "no_load": site_with(load={"annual_kwh": 0}),
        "losses": site_with(bess={"standby_loss_per_hour": 0.01, "initial_soc": 0.9}),
        "curve": site_with(bess={"power_efficiency_curve": [[0, 0.8], [1, 0.9]]}),
    }
    for name, site in sites.items():
        made = build_dataset(site, tmp_path / name, 1)
        assert validate_dataset(made.path).findings == (), name


TABLE_FAULTS = [
    # table, change, column, row, message
    ("building", put("non_shiftable_load", 7, -1.0), "non_shiftable_load", 7, "allowed are 0 and more"),
    ("building", put("non_shiftable_load", 7, np.nan), "non_shiftable_load", 7, "a value is missing"),
    ("building", put("non_shiftable_load", 7, "much"), "non_shiftable_load", 7, "must be numbers"),
    ("building", put("month", 9, 13), "month", 9, "allowed are 1 to 12"),
    ("building", put("hour", 9, 1), "hour", 9, "does not follow the calendar"),
    ("building", put("solar_generation", 12, -1.0), "solar_generation", 12, "allowed are 0 to 1500"),
    ("building", put("solar_generation", 2, 5.0), "solar_generation", 2, "the sun is down"),
    ("building", put("solar_generation", 12, 900.0), "solar_generation", 12, "more than the inverter"),
    ("building", put("cooling_demand", 12, 5.0), "cooling_demand", 12, "allowed are 0 to 0"),
    ("building", lambda t: t.drop(columns="month"), "month", None, "the column is missing"),
    ("building", lambda t: t.assign(extra=1.0), "extra", None, "CityLearn does not know"),
    ("building", lambda t: t.assign(hour=t["hour"].astype(float)), "hour", None, "whole numbers"),
    ("building", lambda t: t.iloc[:-1], None, None, "has 8759 rows"),
    ("weather", put("outdoor_relative_humidity", 3, 101.0), "outdoor_relative_humidity", 3, "0 to 100"),
    (
        "weather",
        put("direct_solar_irradiance_predicted_2", 10, 77.0),
        "direct_solar_irradiance_predicted_2",
        10,
        "is not direct_solar_irradiance 2 h later",
    ),
    ("pricing", put("electricity_pricing", 3, -0.1), "electricity_pricing", 3, "allowed are 0 and more"),
    (
        "pricing",
        put("electricity_pricing_predicted_1", 17, 0.25),
        "electricity_pricing_predicted_1",
        17,
        "is not electricity_pricing 1 h later",
    ),
    ("carbon_intensity", put("carbon_intensity", 3, np.nan), "carbon_intensity", 3, "a value is missing"),
    ("carbon_intensity", put("carbon_intensity", 3, -1.0), "carbon_intensity", 3, "allowed are 0 and more"),
    ("no_control", put("grid_import_kwh", 30, 1e4), "grid_import_kwh", 30, "does not follow from the tables"),
    ("no_control", lambda t: t.drop(columns="load_kwh"), "load_kwh", None, "the column is missing"),
]


@pytest.mark.parametrize(
    ("table", "change", "column", "row", "message"),
    TABLE_FAULTS,
    ids=[f"{table}-{column}-{message}".replace(" ", "_") for table, _, column, _, message in TABLE_FAULTS],
)
def test_faults_of_tables_are_named_by_file_column_and_row(copied, table, change, column, row, message):
    file = f"{YEAR}/{table}.parquet"
    edit(copied, file, change)
    found = expect(copied, file, column, row, message)
    assert found.severity == "error"


CHARGER_FAULTS = [
    # change of the rows counted from an arrival after a gap, column, row from there, message
    ({STATE: (0, 2)}, STATE, 0, "allowed are 1, 3"),
    ({VEHICLE: (1, "")}, VEHICLE, 1, "connected but not named"),
    ({SESSION: (1, "")}, SESSION, 1, "its session has no id"),
    ({VEHICLE: (-1, "ev_moto_001")}, VEHICLE, -1, "free but names a vehicle"),
    ({SESSION: (-1, "x")}, SESSION, -1, "free but names a session"),
    ({COUNTDOWN: (0, np.nan)}, COUNTDOWN, 0, "its departure is missing"),
    ({COUNTDOWN: (-1, 4.0)}, COUNTDOWN, -1, "free but has a departure"),
    ({COUNTDOWN: (1, 9.0)}, COUNTDOWN, 1, "does not count down by 1"),
    ({COUNTDOWN: (1, 0.0)}, COUNTDOWN, 1, "allowed are 1 and more"),
    ({REQUIRED: (0, np.nan)}, REQUIRED, 0, "connected but needs no SOC"),
    ({REQUIRED: (0, 120.0)}, REQUIRED, 0, "allowed are 0 to 100"),
    ({REQUIRED: (0, 0.9)}, REQUIRED, 0, "1 or less for a fraction"),
    ({ARRIVAL: (0, np.nan)}, ARRIVAL, 0, "arrives but its SOC is missing"),
    ({ARRIVAL: (0, -3.0)}, ARRIVAL, 0, "allowed are 0 to 100"),
    ({ARRIVAL: (-1, 77.0)}, ARRIVAL, -1, "the arrival in the next row"),
    ({ARRIVAL: (-1, np.nan)}, ARRIVAL, -1, "the arrival in the next row"),
    ({VEHICLE: (1, "ev_moto_002")}, VEHICLE, 1, "another vehicle within the same session"),
    ({SESSION: (0, "moto_001-00001")}, SESSION, 0, "used by an earlier session"),
]


@pytest.mark.parametrize(
    ("changes", "column", "offset", "message"),
    CHARGER_FAULTS,
    ids=[fault[3].replace(" ", "_") for fault in CHARGER_FAULTS],
)
def test_faults_of_sessions_are_named_by_file_column_and_row(copied, changes, column, offset, message):
    arrival = arrival_row(copied) if message != "used by an earlier session" else last_arrival(copied)
    for name, (shift, value) in changes.items():
        edit(copied, MOTO, put(name, arrival + shift, value))
    expect(copied, MOTO, column, arrival + offset, message)


def last_arrival(folder):
    table = pd.read_parquet(folder / MOTO)
    return int(table.index[table[ARRIVAL].notna() & (table[STATE] == 1)][-1])


def test_a_session_that_stops_early_is_found(copied):
    arrival = arrival_row(copied)

    def cut(table):
        rows = table.index[table[SESSION] == table[SESSION][arrival]][1:]
        table.loc[rows, STATE] = 3
        table.loc[rows, [VEHICLE, SESSION]] = ""
        table.loc[rows, [COUNTDOWN, REQUIRED]] = np.nan

    edit(copied, MOTO, cut)
    expect(copied, MOTO, COUNTDOWN, arrival, "the session ends here, so this must be 1")


def test_another_vehicle_on_a_socket_is_found(copied):
    table = pd.read_parquet(copied / MOTO)
    session = table[SESSION][last_arrival(copied)]
    rows = table.index[table[SESSION] == session]
    edit(copied, MOTO, lambda t: t.assign(**{VEHICLE: t[VEHICLE].mask(t[SESSION] == session, "ev_other")}))
    expect(copied, MOTO, VEHICLE, int(rows[0]), "another vehicle than ev_moto_001")


def test_a_vehicle_on_two_sockets_at_once_is_found(copied):
    other = f"{YEAR}/chargers/moto_002.parquet"
    edit(copied, other, lambda t: t.assign(**{VEHICLE: t[VEHICLE].replace("ev_moto_002", "ev_moto_001")}))
    finding = next(f for f in validate_dataset(copied).errors if "connected at" in f.message)
    assert (finding.file, finding.column) == (other, VEHICLE)
    tables = [pd.read_parquet(copied / name) for name in (MOTO, other)]
    assert finding.row is not None
    assert all(table[STATE][finding.row] == 1 for table in tables)


def expect(folder, file, column, row, message):
    """The finding with that place and message; its file's hash must have been found wrong as well."""
    report = validate_dataset(folder)
    assert report.exit_code == 2
    assert any(f.file == file and "hash differs" in f.message for f in report.errors)
    for finding in report.findings:
        if (finding.file, finding.column, finding.row) == (file, column, row) and message in finding.message:
            assert file in str(finding)
            return finding
    raise AssertionError("\n".join(map(str, report.findings)))


@pytest.mark.parametrize(
    "name", ["schema.json", "no_control.json", "weather.parquet", "chargers/moto_001.parquet"]
)
@pytest.mark.parametrize("content", [None, b"", b"\x00\xff\xfe garbage", b"{}", b"[1, 2]", b"PAR1...PAR1"])
def test_missing_empty_and_binary_files_are_findings(copied, name, content):
    file = copied / YEAR / name
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    report = validate_dataset(copied)
    assert report.exit_code == 2
    assert any(finding.file == f"{YEAR}/{name}" for finding in report.errors)


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff", b'{"format": "iquitos-rl dataset"}'])
def test_a_missing_or_broken_description_is_a_finding(copied, content):
    (copied / "dataset.json").unlink()
    if content is not None:
        (copied / "dataset.json").write_bytes(content)
    report = validate_dataset(copied)
    assert [finding.file for finding in report.findings] == ["dataset.json"]
    assert report.exit_code == 2


def station_of(schema):
    return schema["buildings"]["small_site"]


SCHEMA_FAULTS = [
    (lambda s: station_of(s).pop("weather"), None, "not a schema of ours"),
    (lambda s: s.update(buildings={}), None, "not a schema of ours"),
    (lambda s: s.update(buildings=3), None, "not a schema of ours"),
    (
        lambda s: station_of(s)["electrical_storage"]["attributes"].pop("capacity_power_curve"),
        "buildings.small_site.electrical_storage.attributes.capacity_power_curve",
        "is missing",
    ),
    (
        lambda s: station_of(s)["charging_constraints"].update(building_limit_kw=99),
        "buildings.small_site.charging_constraints.building_limit_kw",
        "is 99, expected is 7.7",
    ),
    (lambda s: station_of(s)["chargers"].pop("moto_003"), "chargers", "has 5 sockets, the site has 6"),
    (
        lambda s: s["electric_vehicles_def"]["ev_moto_002"]["battery"]["attributes"].update(capacity=9.0),
        "moto_002.capacity",
        "9 does not fit class moto",
    ),
    (
        lambda s: station_of(s)["chargers"]["moto_002"]["attributes"].update(efficiency=0.5),
        "moto_002.efficiency",
        "0.5 does not fit class moto",
    ),
    (lambda s: s["electric_vehicles_def"].pop("ev_moto_002"), None, "which electric_vehicles_def lacks"),
    (lambda s: s.update(simulation_end_time_step=100), "simulation_end_time_step", "expected is 8759"),
    (lambda s: s["actions"].pop("electrical_storage"), "actions.electrical_storage", "is missing"),
]


@pytest.mark.parametrize(
    ("change", "key", "message"), SCHEMA_FAULTS, ids=[f"{key}-{message}" for _, key, message in SCHEMA_FAULTS]
)
def test_faults_of_the_schema_are_named_by_key(copied, change, key, message):
    edit_json(copied, f"{YEAR}/schema.json", change)
    expect(copied, f"{YEAR}/schema.json", key, None, message)


def test_a_schema_that_refers_to_a_missing_file_is_found(copied):
    def change(schema):
        station_of(schema)["chargers"]["moto_001"]["charger_simulation"] = "chargers/gone.parquet"

    edit_json(copied, f"{YEAR}/schema.json", change)
    report = validate_dataset(copied)
    assert any(f.file == f"{YEAR}/chargers/gone.parquet" and "missing" in f.message for f in report.errors)


def test_wrong_stored_totals_are_found(copied):
    edit_json(copied, f"{YEAR}/no_control.json", lambda d: d.update(grid_import_kwh=1.0))
    expect(copied, f"{YEAR}/no_control.json", "grid_import_kwh", None, "is 1.0, expected is")
    edit_json(copied, f"{YEAR}/no_control.json", lambda d: d["reference"]["objectives"].pop("co2"))
    expect(copied, f"{YEAR}/no_control.json", "reference.objectives.co2", None, "is missing")


def test_a_wrong_fingerprint_is_found(copied):
    edit_json(copied, "dataset.json", lambda d: d.update(fingerprint="0" * 64))
    finding = validate_dataset(copied).errors[0]
    assert (finding.file, finding.column) == ("dataset.json", "fingerprint")
    assert load_dataset(copied).verify() == ("dataset.json",)


def test_warnings_alone_exit_with_1(copied, dataset):
    (copied / "notes.txt").write_text("mine")
    report = validate_dataset(copied)
    assert report.exit_code == 1
    assert [str(f) for f in report.warnings] == ["warning: notes.txt: the file is not part of the dataset"]


def test_another_weekday_or_a_dead_meter_is_only_a_warning(copied):
    edit(copied, f"{YEAR}/building.parquet", put("day_type", 5, 8))
    edit(copied, f"{YEAR}/building.parquet", put("non_shiftable_load", 6, 0.0))
    warnings = {(f.column, f.row) for f in validate_dataset(copied).warnings}
    assert warnings == {("day_type", 5), ("non_shiftable_load", 6)}


def test_many_rows_with_one_fault_are_one_finding(copied):
    edit(copied, f"{YEAR}/building.parquet", lambda t: t.assign(non_shiftable_load=-1.0))
    errors = [f for f in validate_dataset(copied).errors if f.column == "non_shiftable_load"]
    assert len(errors) == 1
    assert errors[0].row == 0
    assert "8759 more rows" in errors[0].message


def test_progress_is_told_of_every_year(dataset):
    told = []
    validate_dataset(dataset.path, progress=lambda *args: told.append(args))
    assert told[0] == ("train year 0", 0, 3)
    assert told[-1] == ("done", 3, 3)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_single_wrong_value_makes_the_checks_crash(copied, data):
    name = data.draw(st.sampled_from(["building", "pricing", "chargers/moto_001", "no_control"]))
    file = copied / YEAR / f"{name}.parquet"
    original = file.read_bytes()
    table = pd.read_parquet(file)
    column = data.draw(st.sampled_from(sorted(table.columns)))
    row = data.draw(st.integers(0, len(table) - 1))
    value = data.draw(st.sampled_from([None, np.nan, np.inf, -1.0, 1e300, "text", True, 0]))
    values = table[column].astype(object)
    values[row] = value
    kinds = {type(v) for v in (value, values[0])}
    table[column] = values.astype(str) if str in kinds else values.astype(float)
    table.to_parquet(file)
    try:
        report = validate_dataset(copied)
    finally:
        file.write_bytes(original)
    assert report.exit_code == 2
    assert all("\n" not in str(finding) for finding in report.findings)
    json.dumps([str(finding) for finding in report.findings])
    assert re.search("hash", " ".join(map(str, report.findings)))
