import json

import pytest

from iquitos_rl.site import DatasetError, describe_dataset


def test_the_description_is_json_and_agrees_with_the_stored_year(dataset):
    described = describe_dataset(dataset.path)
    assert json.loads(json.dumps(described)) == described
    assert described["fingerprint"] == dataset.fingerprint
    assert described["sockets"] == 6
    assert described["size_bytes"] == sum(f.stat().st_size for f in dataset.path.rglob("*") if f.is_file())
    assert [(y["split"], y["year"]) for y in described["years"]] == dataset.all_years()
    year = described["years"][2]
    assert year["pv_generation_kwh"] == pytest.approx(24 * 1400, rel=1e-5)
    assert year["load_kwh"] == pytest.approx(19_000)
    assert 20 < year["sessions_per_day"] < 28
    assert 1.5 < year["mean_dwell_hours"] < 2.1
    assert year["unlimited_ev_draw_kwh"] > year["no_control"]["ev_draw_kwh"]
    assert year["ceiling_ev_satisfaction"] > year["no_control"]["ev_satisfaction"]
    assert year["no_control"]["score"] == 1.0
    assert year["no_control"]["grid_import_kwh"] == dataset.no_control_totals("test")["grid_import_kwh"]


def test_a_damaged_table_is_one_line(copied):
    (copied / "train" / "year_0" / "chargers" / "moto_002.parquet").unlink()
    with pytest.raises(DatasetError, match=r"moto_002\.parquet: the file is missing"):
        describe_dataset(copied)
