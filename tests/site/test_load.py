import numpy as np
import pytest

from iquitos_rl.site import DatasetError
from iquitos_rl.site.load import make_load_kwh
from iquitos_rl.site.timeline import HOUR_OF_ROW, random_stream


def load_of(site, **changes):
    config = site.load.model_copy(update=changes)
    return make_load_kwh(config, site.opening_hours, random_stream(0, "train", 0, "load"))


def test_the_year_sums_to_the_annual_energy_exactly(station, mall):
    assert load_of(station).sum() == pytest.approx(396_000, abs=1e-6)
    assert load_of(mall).sum() == pytest.approx(3_358_730, abs=1e-6)
    assert (load_of(station, annual_kwh=0.0) == 0).all()


def test_closed_and_evening_hours_have_their_factors(station):
    load = load_of(station, noise_std=0.0)
    by_hour = load.reshape(-1, 24).mean(axis=0)
    assert by_hour[3] / by_hour[12] == pytest.approx(0.5, rel=1e-5)
    assert by_hour[19] / by_hour[12] == pytest.approx(1.07, rel=1e-5)
    assert np.allclose(by_hour[HOUR_OF_ROW[9:18]], by_hour[12], rtol=1e-5)


def test_noise_is_as_wide_as_asked_and_never_negative(station):
    ratio = load_of(station) / load_of(station, noise_std=0.0)
    assert ratio.std() == pytest.approx(0.05, rel=0.05)
    assert load_of(station, noise_std=1.0).min() > 0


def test_a_profile_without_any_load_is_refused(station):
    config = station.load.model_copy(
        update={"closed_fraction": 0.0, "evening_factor": 0.0, "evening_hours": (0, 24)}
    )
    with pytest.raises(DatasetError, match="no hour with any consumption"):
        make_load_kwh(config, station.opening_hours, random_stream(0, "train", 0, "load"))
