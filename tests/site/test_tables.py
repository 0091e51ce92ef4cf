import numpy as np
import pandas as pd
import pytest

from iquitos_rl.site import DatasetError
from iquitos_rl.site.schema import read_year
from iquitos_rl.site.storage import read_table, write_table
from iquitos_rl.site.tables import CHARGER_COLUMNS
from iquitos_rl.site.year import make_year


def assert_same_year(first, second):
    assert first.sockets == second.sockets
    for name in ("socket", "start", "dwell", "arrival_soc", "required_soc"):
        assert np.allclose(getattr(first.sessions, name), getattr(second.sessions, name), atol=1e-12), name
    for name in ("load_kwh", "price_usd_per_kwh", "carbon_intensity_kg_per_kwh", "pv_generation_kwh"):
        assert np.array_equal(getattr(first, name), getattr(second, name)), name
    for name in ("direct_irradiance_w_per_m2", "diffuse_irradiance_w_per_m2", "temperature_c"):
        assert np.array_equal(getattr(first.sun, name), getattr(second.sun, name)), name


@pytest.mark.parametrize("source", ["dataset", "csv_dataset"])
def test_a_year_read_back_is_the_year_that_was_made(source, small_site, request):
    made = make_year(small_site, 5, "validation", 0)
    read = read_year(request.getfixturevalue(source).year_path("validation"))
    assert_same_year(made, read)
    assert read.feeder_limit_kw == small_site.feeder_limit_kw


def test_csv_and_parquet_hold_the_same_tables(dataset, csv_dataset):
    folder = dataset.year_path("test")
    tables = sorted(folder.rglob("*.parquet"))
    assert len(tables) == 5 + 6
    for file in tables:
        twin = csv_dataset.year_path("test") / file.relative_to(folder).with_suffix(".csv")
        pd.testing.assert_frame_equal(read_table(file), read_table(twin), check_dtype=False, check_exact=True)


def test_predicted_columns_are_what_comes_later(dataset):
    for table, column in (
        ("weather", "direct_solar_irradiance"),
        ("weather", "outdoor_relative_humidity"),
        ("pricing", "electricity_pricing"),
    ):
        frame = read_table(dataset.year_path("train") / f"{table}.parquet")
        for hours in (1, 2, 3):
            predicted = frame[f"{column}_predicted_{hours}"].to_numpy()
            assert np.array_equal(predicted[:-hours], frame[column].to_numpy()[hours:])
            assert (predicted[-hours:] == frame[column].iloc[-1]).all()


def test_the_calendar_and_the_tariff_follow_citylearns_conventions(dataset):
    building = read_table(dataset.year_path("train") / "building.parquet")
    price = read_table(dataset.year_path("train") / "pricing.parquet")["electricity_pricing"]
    assert list(building["hour"][:25]) == [*range(1, 25), 1]
    assert list(building["day_type"][::24][:8]) == [1, 2, 3, 4, 5, 6, 7, 1]
    assert building["month"].iloc[0] == 1
    assert building["month"].iloc[-1] == 12
    assert (building.groupby("month").size().loc[2]) == 28 * 24
    assert (price[18:23] == 0.3).all()
    assert (price[:18] == 0.2).all()
    assert price[23] == 0.2


def test_charger_rows_count_down_and_give_the_arrival_soc_where_citylearn_reads_it(dataset):
    frame = read_table(dataset.year_path("train") / "chargers" / "moto_001.parquet")
    assert tuple(frame.columns) == CHARGER_COLUMNS
    assert frame["electric_vehicle_charger_state"].dtype == np.int64
    state = frame["electric_vehicle_charger_state"].to_numpy()
    ids = frame["electric_vehicle_session_id"].to_numpy(dtype=object)
    soc = frame["electric_vehicle_estimated_soc_arrival"].to_numpy()
    countdown = frame["electric_vehicle_departure_time"].to_numpy()
    back_to_back = after_gap = 0
    for row in range(1, len(frame)):
        if state[row] != 1:
            assert (frame["electric_vehicle_id"][row], ids[row]) == ("", "")
            assert np.isnan(countdown[row])
            continue
        if ids[row] == ids[row - 1]:
            assert countdown[row] == countdown[row - 1] - 1
            continue
        assert not np.isnan(soc[row])
        if state[row - 1] == 1:
            back_to_back += 1
            assert countdown[row - 1] == 1
        else:
            after_gap += 1
            assert soc[row - 1] == soc[row]
    assert back_to_back > 100
    assert after_gap > 100
    assert ids[np.flatnonzero(state == 1)[0]] == "moto_001-00001"


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize(
    "content", [b"", b"\x00\x01\x02\xff" * 50, b"a,b\n1,2,3\n\n4", b"PAR1,x\ngarbagePAR1"]
)
def test_a_file_that_is_no_table_is_one_line_of_error(tmp_path, suffix, content):
    file = tmp_path / f"table.{suffix}"
    file.write_bytes(content)
    with pytest.raises(DatasetError, match=r"not a readable table \([^\n]+\)$"):
        read_table(file)


def test_a_missing_table_or_a_column_twice_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="is missing"):
        read_table(tmp_path / "none.parquet")
    (tmp_path / "twice.csv").write_text("a,a\n1,2\n")
    with pytest.raises(DatasetError, match="column a is there twice"):
        read_table(tmp_path / "twice.csv")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_tables_survive_to_the_last_bit(tmp_path, suffix):
    values = np.random.default_rng(0).standard_normal(1000) * 10.0 ** np.arange(-5, 5).repeat(100)
    values[3] = np.nan
    write_table({"x": values, "none": np.full(1000, np.nan)}, tmp_path / f"t.{suffix}")
    frame = read_table(tmp_path / f"t.{suffix}")
    assert np.array_equal(frame["x"], values, equal_nan=True)
    assert frame["none"].dtype == np.float64
