"""The reference site's no-control year, which every comparison rests on."""

import pytest

from iquitos_rl.site.no_control import no_control_hours, no_control_year
from iquitos_rl.site.year import make_year


@pytest.mark.parametrize("seed", [101, 202, 303, 404, 505])
def test_the_stations_no_control_year_is_the_reports(station, seed):
    year = make_year(station, seed, "test", 0)
    totals = no_control_year(year, station).totals()
    assert totals["grid_import_kwh"] == pytest.approx(420_000, rel=0.01)  # the bar is 3 %
    assert totals["co2_grid_kg"] == pytest.approx(190_000, rel=0.03)
    assert totals["solar_utilisation"] == pytest.approx(0.40, abs=0.01)  # the bar is 2 points
    assert totals["ev_satisfaction"] == pytest.approx(0.78, abs=0.01)  # the bar is 2 points
    free = no_control_hours(year, feeder_limited=False)
    assert free["ev_draw_kwh"].sum() == pytest.approx(425_000, rel=0.01)
    ceiling = 1 - free["satisfaction_shortfall"].sum() / free["ev_departures"].sum()
    assert ceiling == pytest.approx(0.953, abs=0.005)
    evening = free["ev_draw_kwh"][(free.index % 24 >= 18) & (free.index % 24 < 21)].sum()
    assert evening / free["ev_draw_kwh"].sum() == pytest.approx(0.48, abs=0.02)


def test_the_mall_dwarfs_its_charging(mall):
    totals = no_control_year(make_year(mall, 1, "test", 0), mall).totals()
    assert totals["pv_generation_kwh"] == pytest.approx(8_030_000, rel=1e-4)
    assert totals["load_kwh"] == pytest.approx(9_202 * 365, rel=1e-3)
    assert totals["ev_draw_kwh"] < 0.1 * totals["load_kwh"]
