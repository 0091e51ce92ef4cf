"""Years are parsed once and mapped from a cache that is never stale, never trusted blindly, never needed."""

import logging
import mmap
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from iquitos_rl.env.batch import years as years_module
from iquitos_rl.env.batch.years import CACHE_VARIABLE, YearTables, cache_folder, load_years
from iquitos_rl.site.errors import DatasetError
from iquitos_rl.site.storage import read_json, write_json
from tests.parity.variants import Choices, build

NAMES = [field.name for field in fields(YearTables)]
SITE = Choices(sockets=3)


@pytest.fixture
def schema(tmp_path):
    return build(SITE, 1).write(tmp_path / "year")


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def no_parsing(monkeypatch):
    """From its call on, reading a table is an error."""

    def forbid():
        def read(parameters):
            raise AssertionError(f"{parameters.schema} is parsed again")

        monkeypatch.setattr(years_module, "read_charger_tables", read)
        monkeypatch.setattr(years_module, "read_site_tables", read)

    return forbid


def entries(cache):
    return sorted(cache.iterdir()) if cache.exists() else []


def assert_equal(one, other):
    for name in NAMES:
        first, second = getattr(one.tables, name), getattr(other.tables, name)
        assert first.dtype == second.dtype, name
        assert np.array_equal(first, second, equal_nan=first.dtype.kind == "f"), name
    assert one.parameters == other.parameters
    for first, second in zip(one.scales, other.scales, strict=True):
        assert first.net_kw == second.net_kw
        assert first.rated_power_kw.tolist() == second.rated_power_kw.tolist()


def base_of(array):
    """What holds an array's memory."""
    while isinstance(array, np.ndarray) and array.base is not None:
        array = array.base
    return array


def warnings_in(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_second_load_parses_nothing_and_finds_the_same(schema, cache, no_parsing, caplog):
    first = load_years([schema], cache=cache)
    assert len(entries(cache)) == 1
    no_parsing()
    assert_equal(load_years([schema], cache=cache), first)
    assert warnings_in(caplog) == []


def test_the_forbidden_parser_would_be_noticed(schema, cache, no_parsing):
    no_parsing()
    with pytest.raises(AssertionError, match="parsed again"):
        load_years([schema], cache=cache)


@pytest.mark.parametrize(
    "file", ["schema.json", "building.parquet", "pricing.parquet", "chargers/socket_1.parquet"]
)
def test_other_content_is_another_entry(schema, cache, file):
    load_years([schema], cache=cache)
    (first,) = entries(cache)
    path = schema.parent / file
    if file == "schema.json":
        write_json({**read_json(path), "random_seed": 77}, path)
    else:
        other = build(SITE, 2)
        other.schema = read_json(schema)
        other.write(schema.parent.parent / "other")
        path.write_bytes((schema.parent.parent / "other" / file).read_bytes())
    load_years([schema], cache=cache)
    assert len(entries(cache)) == 2
    assert first in entries(cache)


def test_a_copy_elsewhere_shares_the_entry(tmp_path, schema, cache, no_parsing):
    load_years([schema], cache=cache)
    copy = build(SITE, 1).write(tmp_path / "copy")
    no_parsing()
    load_years([copy], cache=cache)
    assert len(entries(cache)) == 1


def test_the_years_and_their_order_are_another_entry(tmp_path, cache):
    schemas = [build(SITE, 1).write(tmp_path / "one")]
    second = build(SITE, 1)
    second.table("building")["non_shiftable_load"] *= 2
    schemas.append(second.write(tmp_path / "two"))
    both, swapped = load_years(schemas, cache=cache), load_years(schemas[::-1], cache=cache)
    assert len(entries(cache)) == 2
    rows = int(both.rows[0])
    assert np.array_equal(both.tables.hours[:rows], swapped.tables.hours[rows:])
    assert not np.array_equal(both.tables.hours[:rows], both.tables.hours[rows:])
    assert both.first_row.tolist() == [0, rows]
    assert both.scales[1].mean_load_kwh == pytest.approx(2 * both.scales[0].mean_load_kwh)


def test_tables_are_read_only_and_mapped(schema, cache):
    first, second = (load_years([schema], cache=cache) for _ in range(2))
    for years in (first, second):
        for name in NAMES:
            array = getattr(years.tables, name)
            assert type(array) is np.ndarray, name
            assert isinstance(base_of(array), mmap.mmap), name
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 0
    mapped = Path("/proc/self/maps").read_text()
    (entry,) = entries(cache)
    assert all(f"{entry.name}/{name}.npy" in mapped for name in NAMES)


def test_nothing_unfinished_is_left_in_the_cache(schema, cache):
    load_years([schema], cache=cache)
    assert [path.name for path in entries(cache) if path.name.startswith(".")] == []


def truncate(file):
    file.write_bytes(file.read_bytes()[:-4])


def empty(file):
    file.write_bytes(b"")


def other_bytes(file):
    file.write_bytes(b"not a table at all, but long enough to look at")


@pytest.mark.parametrize("damage", [truncate, empty, other_bytes, Path.unlink])
@pytest.mark.parametrize("name", [NAMES[0], NAMES[-1]])
def test_a_damaged_entry_is_rebuilt_with_a_warning(schema, cache, caplog, no_parsing, damage, name):
    whole = load_years([schema], cache=cache)
    expected = {name: getattr(whole.tables, name).copy() for name in NAMES}
    (entry,) = entries(cache)
    damage(entry / f"{name}.npy")
    again = load_years([schema], cache=cache)
    for column, values in expected.items():
        assert np.array_equal(getattr(again.tables, column), values), column
    assert any(str(entry) in line and "damaged" in line for line in warnings_in(caplog))
    caplog.clear()
    no_parsing()
    load_years([schema], cache=cache)  # it is whole again
    assert warnings_in(caplog) == []


@pytest.mark.parametrize("where", ["/proc/no_such_folder", "a file"])
def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, schema, caplog, where):
    (tmp_path / "a file").touch()
    folder = Path(where) if where.startswith("/") else tmp_path / where
    years = load_years([schema], cache=folder)
    assert any(f"{folder}: cannot keep prepared tables" in line for line in warnings_in(caplog))
    assert_equal(years, load_years([schema], cache=tmp_path / "cache"))


def test_a_full_disk_leaves_nothing_behind(schema, cache, caplog, monkeypatch):
    saved = []

    def save(path, array):
        saved.append(path)
        if len(saved) > 2:
            raise OSError(28, "No space left on device")
        original(path, array)

    original = np.save
    monkeypatch.setattr(np, "save", save)
    years = load_years([schema], cache=cache)
    assert entries(cache) == []
    assert "No space left" in warnings_in(caplog)[0]
    monkeypatch.setattr(np, "save", original)
    assert_equal(load_years([schema], cache=cache), years)


def test_two_processes_that_prepare_the_same_years_do_not_disturb_each_other(
    schema, cache, monkeypatch, caplog
):
    read = years_module.read_charger_tables

    def slowly(parameters):
        monkeypatch.setattr(years_module, "read_charger_tables", read)
        load_years([schema], cache=cache)  # another one is faster
        return read(parameters)

    monkeypatch.setattr(years_module, "read_charger_tables", slowly)
    years = load_years([schema], cache=cache)
    assert len(entries(cache)) == 1
    assert isinstance(base_of(years.tables.hours), mmap.mmap)
    assert warnings_in(caplog) == []


def test_the_environment_variable_says_where_the_cache_is(monkeypatch, tmp_path, schema):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "chosen"))
    assert cache_folder() == tmp_path / "chosen"
    load_years([schema])
    assert len(entries(tmp_path / "chosen")) == 1
    monkeypatch.setenv(CACHE_VARIABLE, "~/there")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "there"
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "users"))
    assert cache_folder() == tmp_path / "users" / "iquitos_rl" / "years"


def test_an_empty_environment_variable_means_no_cache(monkeypatch, tmp_path, schema, caplog):
    monkeypatch.setenv(CACHE_VARIABLE, "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert cache_folder() is None
    years = load_years([schema])
    assert not isinstance(base_of(years.tables.hours), mmap.mmap)
    assert not (tmp_path / "home").exists()
    assert warnings_in(caplog) == []


def changed(**changes):
    """The same site with other values in one of its sections."""
    other = build(SITE, 1)
    for section, values in changes.items():
        getattr(other, section).update(values)
    return other


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (build(replace(SITE, sockets=2), 1), "other sockets than"),
        (build(replace(SITE, bess="none"), 1), "another bess than"),
        (changed(bess={"capacity": 999.0}), "another bess than"),
        (changed(bess={"initial_soc": 0.123}), "another bess than"),
        (build(replace(SITE, limit="ample"), 1), "another limit_kw than"),
        (build(replace(SITE, phases=2), 1), "another phases than"),
    ],
)
def test_years_of_different_sites_are_refused(schema, cache, tmp_path, other, said):
    second = other.write(tmp_path / "second")
    with pytest.raises(ValueError, match=said) as caught:
        load_years([schema, second], cache=cache)
    assert str(second) in str(caught.value)
    assert entries(cache) == []


def test_years_with_another_rating_are_refused_and_the_socket_is_named(schema, cache, tmp_path):
    other = build(SITE, 1)
    other.chargers["socket_2"]["max_charging_power"] *= 1.5
    with pytest.raises(ValueError, match="another rating of socket_2 than"):
        load_years([schema, other.write(tmp_path / "second")], cache=cache)


def test_years_may_differ_in_vehicles_pv_and_length(schema, cache, tmp_path):
    other = build(replace(SITE, hours=40, vehicle="curved"), 9)
    other.building["electrical_storage"] = build(SITE, 1).building["electrical_storage"]
    other.building["chargers"] = build(SITE, 1).building["chargers"]
    other.building["charging_constraints"] = build(SITE, 1).building["charging_constraints"]
    years = load_years([schema, other.write(tmp_path / "second")], cache=cache)
    assert years.rows.tolist() == [96, 40]
    assert years.first_row.tolist() == [0, 96]
    assert years.tables.hours.shape[0] == 136
    assert years.scales[0].pv_kwp != years.scales[1].pv_kwp
    assert years.socket_names == ("socket_0", "socket_1", "socket_2")
    assert years.has_bess


def test_a_schema_or_a_table_that_is_missing_is_named(schema, cache, tmp_path):
    with pytest.raises(FileNotFoundError):
        load_years([tmp_path / "nowhere.json"], cache=cache)
    (schema.parent / "chargers" / "socket_0.parquet").unlink()
    with pytest.raises(DatasetError, match=r"socket_0\.parquet: the file is missing"):
        load_years([schema], cache=cache)
    assert entries(cache) == []


def test_a_missing_table_is_missed_even_if_the_years_were_cached(schema, cache):
    load_years([schema], cache=cache)
    (schema.parent / "chargers" / "socket_0.parquet").unlink()
    with pytest.raises(DatasetError, match=r"socket_0\.parquet: the file is missing"):
        load_years([schema], cache=cache)
