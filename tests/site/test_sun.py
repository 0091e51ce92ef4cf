import numpy as np
import pytest

from iquitos_rl.site import DatasetError
from iquitos_rl.site.sun import clear_sky_index, make_sun, pv_output_w_per_kw, sun_elevation_deg
from iquitos_rl.site.timeline import HOUR_OF_ROW, HOURS_PER_YEAR, MONTH_OF_ROW, random_stream


def sun_of(site, seed=0):
    return make_sun(site.location, site.pv, random_stream(seed, "train", 0, "sun"))


@pytest.mark.parametrize("name", ["station", "mall"])
def test_the_clipped_output_has_the_configured_annual_yield(name, request):
    site = request.getfixturevalue(name)
    pv = sun_of(site).pv_w_per_kw
    assert pv.sum() / 1000 == pytest.approx(site.pv.annual_yield_kwh_per_kwp, rel=1e-6)
    assert pv.max() <= 1000 * site.pv.inverter_power_kw / site.pv.nominal_power_kwp + 1e-3
    assert pv.min() == 0


def test_the_sun_shines_by_day_only(station):
    sun = sun_of(station)
    night = sun_elevation_deg(station.location) <= 0
    assert 4000 < night.sum() < 4760
    for values in (sun.pv_w_per_kw, sun.direct_irradiance_w_per_m2, sun.diffuse_irradiance_w_per_m2):
        assert (values[night] == 0).all()
    by_hour = sun.pv_w_per_kw.reshape(-1, 24).mean(axis=0)
    assert 10 <= by_hour.argmax() <= 13


def test_the_clear_sky_index_keeps_its_bounds_monthly_means_and_autocorrelation(station):
    config = station.pv.clear_sky_index
    index = np.array([clear_sky_index(config, random_stream(s, "train", 0, "sun")) for s in range(40)])
    assert config.minimum <= index.min() <= index.max() <= config.maximum
    for month, mean in enumerate(config.monthly_mean, start=1):
        assert index[:, month == MONTH_OF_ROW].mean() == pytest.approx(mean, rel=0.04)
    neighbours = np.corrcoef(index[:, :-1].ravel(), index[:, 1:].ravel())[0, 1]
    assert 0.4 < neighbours < 0.9


def test_a_yield_beyond_the_inverter_is_refused_in_one_line(station):
    pv = station.pv.model_copy(update={"inverter_power_kw": 50.0})
    irradiance = np.where(HOUR_OF_ROW == 12, 800.0, 0.0)
    with pytest.raises(DatasetError, match=r"yield_kwh_per_kwp 1400 cannot be.*inverter_power_kw"):
        pv_output_w_per_kw(irradiance, pv)


def test_a_site_without_pv_has_weather_but_no_output(station):
    sun = make_sun(station.location, None, random_stream(0, "train", 0, "sun"))
    assert (sun.pv_w_per_kw == 0).all()
    assert sun.direct_irradiance_w_per_m2.max() > 300
    assert sun.temperature_c.shape == (HOURS_PER_YEAR,)
