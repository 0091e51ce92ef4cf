"""The features that the engine writes in place are those of `feature_vector`, from the engine's own state."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iquitos_rl.env.batch.tables import read_charger_tables, read_site_tables
from iquitos_rl.env.observation import (
    LOOKAHEAD_HOURS,
    FeatureLayout,
    SiteState,
    SocketState,
    feature_vector,
    idle_sockets,
)
from tests.env.batch.conftest import PLAIN, SEARCH, SITES, engine_of
from tests.parity.variants import build, choices


class Expected:
    """Observations of one engine, computed from its tables as they were read and from its present state."""

    def __init__(self, engine):
        self.engine = engine
        self.parameters = engine.years.parameters
        self.site = [read_site_tables(parameters) for parameters in self.parameters]
        self.sockets = [read_charger_tables(parameters) for parameters in self.parameters]
        self.layout = FeatureLayout(engine.years.socket_names)

    def sockets_of(self, i):
        year, row = int(self.engine.year[i]), int(self.engine.row[i])
        tables, vehicles = self.sockets[year], list(self.parameters[year].vehicles.values())
        here = tables.vehicle[row]
        capacity = np.array([vehicles[number].capacity_kwh if number >= 0 else 0.0 for number in here])
        return SocketState(
            occupied=here >= 0,
            soc=self.engine.soc[i].astype(float),
            required_soc=np.maximum(tables.required_soc[row].astype(float), 0.0),
            capacity_kwh=capacity,
            hours_to_departure=np.maximum(tables.hours_left[row].astype(float), 0.0),
        )

    def site_of(self, i):
        engine, year, row = self.engine, int(self.engine.year[i]), int(self.engine.row[i])
        tables = self.site[year]
        ahead = np.minimum(np.arange(row, row + 1 + LOOKAHEAD_HOURS), self.parameters[year].rows - 1)
        return SiteState(
            hour_of_year=np.asarray(row, float),
            hour=np.asarray(tables.hour[row], float),
            day_type=np.asarray(tables.day_type[row], float),
            pv_kwh=tables.pv_kwh[ahead].astype(float),
            load_kwh=np.asarray(tables.load_kwh[row], float),
            price_usd_per_kwh=tables.price[ahead].astype(float),
            carbon_intensity_kg_per_kwh=np.asarray(tables.carbon_intensity[row], float),
            bess_soc=np.asarray(0.0 if engine.bess_soc is None else engine.bess_soc[i], float),
            previous_net_kwh=np.asarray(engine.previous_net_kwh[i], float),
            day_peak_kw=np.asarray(0.0 if tables.hour[row] == 0 else engine.day_peak_kw[i], float),
        )

    def observation(self, i):
        scales = self.engine.years.scales[self.engine.year[i]]
        return feature_vector(self.site_of(i), self.sockets_of(i), scales, self.layout, self.layout.bounds)

    def assert_shown(self):
        shown = self.engine.observe()
        low, high = self.layout.bounds
        for i in range(self.engine.environments):
            expected = self.observation(i)
            apart = np.flatnonzero(~(np.abs(shown[i] - expected) <= 1e-6))
            assert not len(apart), [(self.layout.names[k], shown[i][k], expected[k]) for k in apart]
            assert np.array_equal(self.engine.ready[i], ~idle_sockets(self.sockets_of(i)))
        assert ((shown >= low) & (shown <= high)).all()


def actions_for(engine, hours, seed):
    low = [-1.0] * engine.has_bess + [-1.0 if gives else 0.0 for gives in engine.may_discharge]
    shape = (hours, engine.environments, len(low))
    return np.random.default_rng(seed).uniform(low, 1.0, shape).astype(np.float32)


@pytest.mark.parametrize("site", SITES)
def test_two_years_at_once(schemas_of, site):
    engine = engine_of(schemas_of(site), 5)
    expected = Expected(engine)
    engine.reset(np.arange(5), np.array([0, 1, 0, 1, 1]), np.array([0, 0, 40, 30, 69 - 26]))
    expected.assert_shown()
    for step, action in enumerate(actions_for(engine, 26, 3)):
        engine.step(action)
        expected.assert_shown()
        if step == 9:  # two of them go elsewhere, one of these to the other year
            engine.reset(np.array([1, 2]), np.array([0, 0]), np.array([55, 3]))
            expected.assert_shown()


@SEARCH
@given(choices(raw=False), st.integers(0, 2**32 - 1))
def test_any_site(tmp_path_factory, site, seed):
    engine = engine_of([build(site, seed).write(tmp_path_factory.mktemp("site"))], 2)
    expected = Expected(engine)
    hours = min(20, int(engine.years.rows[0]) - 2)
    engine.reset(np.arange(2), np.zeros(2, int), np.array([0, engine.years.rows[0] - 1 - hours]))
    expected.assert_shown()
    for action in actions_for(engine, hours, seed):
        engine.step(action)
        expected.assert_shown()


@pytest.mark.parametrize(
    "change",
    [
        {"capacity": 2000.0},  # vehicles that cannot be ready in time by far
        {"capacity": 0.01},
    ],
)
def test_features_far_beyond_their_bounds_are_clipped_to_them(tmp_path, change):
    site = build(replace(PLAIN, limit="zero"), 4)
    for vehicle in site.vehicles.values():
        vehicle.update(change)
    engine = engine_of([site.write(tmp_path)], 1)
    expected = Expected(engine)
    engine.reset(np.zeros(1, int), np.zeros(1, int), np.zeros(1, int))
    for action in actions_for(engine, 30, 3):
        expected.assert_shown()
        engine.step(action)


def test_a_site_without_anything_to_divide_by(tmp_path):
    site = build(replace(PLAIN, pv=False, bess="none", limit="unconstrained"), 4)
    site.table("building")["non_shiftable_load"][:] = 0.0
    for name in ("pricing", "carbon_intensity"):
        for values in site.table(name).values():
            values[:] = 0.0
    engine = engine_of([site.write(tmp_path)], 1)
    expected = Expected(engine)
    engine.reset(np.zeros(1, int), np.zeros(1, int), np.zeros(1, int))
    for action in actions_for(engine, 30, 3):
        expected.assert_shown()
        engine.step(action)
    shown = dict(zip(expected.layout.names, engine.observe()[0], strict=True))
    assert [shown[name] for name in ("pv", "load", "price", "carbon_intensity", "bess_soc")] == [0] * 5
    assert shown["feeder_share"] == 1


def test_the_days_peak_is_forgotten_at_midnight(tmp_path):
    engine = engine_of([build(PLAIN, 1).write(tmp_path)], 1)
    layout = FeatureLayout(engine.years.socket_names)
    engine.reset(np.zeros(1, int), np.zeros(1, int), np.array([18]))
    peaks = []
    for action in actions_for(engine, 12, 3):
        peaks.append(float(engine.observe()[0, layout.index("day_peak")]))
        engine.step(action)
    assert peaks[0] == 0  # an episode begins with none
    assert peaks[6] == 0
    assert peaks[1:6] == sorted(peaks[1:6])
    assert peaks[5] > 0


def test_the_same_array_is_written_again(schemas_of):
    engine = engine_of(schemas_of("plain"), 2)
    engine.reset(np.arange(2), np.zeros(2, int), np.zeros(2, int))
    first = engine.observe()
    before = first.copy()
    assert np.array_equal(engine.observe(), before)  # looking changes nothing
    engine.step(actions_for(engine, 1, 0)[0])
    assert engine.observe() is first
    assert not np.array_equal(first, before)
