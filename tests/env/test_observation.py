"""The ``features`` observation as pure functions, against values worked out by hand."""

import numpy as np
import pytest

from iquitos_rl.env.observation import (
    SITE_FEATURES,
    SOCKET_FEATURES,
    FeatureLayout,
    SiteScales,
    SiteState,
    SocketState,
    feature_vector,
    idle_sockets,
)

LAYOUT = FeatureLayout(("moto_001", "moto_002", "mototaxi_001"))
SCALES = SiteScales(
    pv_kwp=10.0,
    mean_load_kwh=1.0,
    highest_price_usd_per_kwh=0.3,
    highest_carbon_intensity_kg_per_kwh=0.5,
    feeder_limit_kw=4.0,
    rated_power_kw=np.array([2.0, 2.0, 3.0]),
    charger_efficiency=np.array([0.95, 0.95, 0.9]),
    largest_battery_kwh=6.0,
)
SITE = SiteState(
    hour_of_year=np.array(8760 / 4),
    hour=np.array(6),
    day_type=np.array(0),
    pv_kwh=np.array([5.0, 2.0, 1.0, 20.0]),
    load_kwh=np.array(1.5),
    price_usd_per_kwh=np.array([0.15, 0.3, 0.3, 0.0]),
    carbon_intensity_kg_per_kwh=np.array(0.25),
    bess_soc=np.array(0.4),
    previous_net_kwh=np.array(-5.0),
    day_peak_kw=np.array(4.0),
)
SOCKETS = SocketState(
    occupied=np.array([True, False, True]),
    soc=np.array([0.3, 0.7, 0.95]),
    required_soc=np.array([0.9, 0.9, 0.9]),
    capacity_kwh=np.array([3.0, 3.0, 6.0]),
    hours_to_departure=np.array([3.0, 5.0, 24.0]),
)


def vector(site=SITE, sockets=SOCKETS, scales=SCALES):
    return feature_vector(site, sockets, scales, LAYOUT, LAYOUT.bounds)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hour_sin", 1),
        ("hour_cos", 0),
        ("year_sin", 1),
        ("year_cos", 0),
        ("week_sin", 0),
        ("week_cos", 1),
        ("pv", 0.5),
        ("pv_next_1", 0.2),
        ("pv_next_2", 0.1),
        ("pv_next_3", 1.2),  # 2, clipped
        ("load", 0.75),
        ("price", 0.5),
        ("price_next_1", 1),
        ("price_next_3", 0),
        ("carbon_intensity", 0.5),
        ("bess_soc", 0.4),
        ("previous_net_consumption", -0.5),  # the scale is max(feeder 4 + 2 x load 1, PV 10)
        ("day_peak", 0.4),
        ("feeder_share", 4 / 5),  # sockets 0 and 2 are not idle: 5 kW
        ("occupancy", 2 / 3),
        ("energy_needed", 0.6 * 3 / 0.95 / 16),
    ],
)
def test_site_features_by_hand(name, expected):
    assert vector()[LAYOUT.index(name)] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("socket", "expected"),
    [
        # occupied, soc, gap, energy / 6 kWh, hours / 12, laxity / 6, power / 3 kW
        ("moto_001", [1, 0.3, 0.6, 1.8 / 0.95 / 6, 3 / 12, (3 - 1.8 / 0.95 / 2) / 6, 2 / 3]),
        ("moto_002", [0, 0, 0, 0, 0, 0, 2 / 3]),
        ("mototaxi_001", [1, 0.95, 0, 0, 1, 1, 1]),  # 24 hours: both clipped
    ],
)
def test_socket_features_by_hand(socket, expected):
    assert vector()[LAYOUT.socket_slice(socket)] == pytest.approx(expected, abs=1e-6)


def test_a_vehicle_that_cannot_be_ready_in_time_has_negative_laxity():
    sockets = SocketState(np.array([True] * 3), np.zeros(3), np.ones(3), np.full(3, 6.0), np.ones(3))
    laxity = vector(sockets=sockets)[LAYOUT.index("laxity", "moto_001")]
    assert laxity == pytest.approx((1 - 6 / 0.95 / 2) / 6)


def test_the_layout_names_every_position_once():
    names = LAYOUT.names
    assert len(names) == len(set(names)) == LAYOUT.size == 22 + 7 * 3 == len(vector())
    for name in SITE_FEATURES:
        assert names[LAYOUT.index(name)] == name
    for number, socket in enumerate(LAYOUT.sockets):
        assert LAYOUT.socket_slice(number) == LAYOUT.socket_slice(socket)
        for name in SOCKET_FEATURES:
            assert (
                names[LAYOUT.index(name, socket)] == f"{socket}.{name}" == names[LAYOUT.index(name, number)]
            )


def test_the_slices_are_the_site_and_a_table_of_sockets():
    names = np.array(LAYOUT.names)
    assert names[LAYOUT.site_slice].tolist() == list(SITE_FEATURES)
    table = names[LAYOUT.sockets_slice].reshape(3, LAYOUT.socket_feature_count)
    assert table[1].tolist() == names[LAYOUT.socket_slice(1)].tolist()


def test_128_sockets_give_the_918_values_of_the_documentation():
    assert FeatureLayout(tuple(map(str, range(128)))).size == 918


@pytest.mark.parametrize("arguments", [("socc",), ("soc",), ("soc", "moto_009"), ("pv", 0)])
def test_an_unknown_feature_or_socket_is_an_error(arguments):
    with pytest.raises(ValueError, match="not in"):
        LAYOUT.index(*arguments)


def test_the_layout_as_json_names_features_and_sockets():
    data = LAYOUT.to_json()
    assert data["sockets"] == list(LAYOUT.sockets)
    assert data["site_features"] == list(SITE_FEATURES)
    assert data["socket_features"] == list(SOCKET_FEATURES)


def test_many_environments_at_once_give_what_each_gives_alone():
    def stacked(kind, *states):
        fields = kind.__dataclass_fields__
        return kind(**{name: np.stack([getattr(state, name) for state in states]) for name in fields})

    other_site = SiteState(**{**SITE.__dict__, "hour": np.array(20), "load_kwh": np.array(9)})
    other = SocketState(**{**SOCKETS.__dict__, "occupied": np.array([False, True, True])})
    both = vector(stacked(SiteState, SITE, other_site), stacked(SocketState, SOCKETS, other))
    assert both.shape == (2, LAYOUT.size)
    assert np.array_equal(both, np.stack([vector(), vector(other_site, other)]))


@pytest.mark.parametrize(
    ("occupied", "soc", "idle"),
    [
        (False, 0.3, True),
        (True, 0.3, False),
        (True, 0.95, False),  # above what is required, but there is room
        (True, 1 - 1e-5, False),
        (True, 1 - 1e-7, True),
        (True, 1.0, True),
    ],
)
def test_a_socket_is_idle_without_a_vehicle_or_when_it_is_full(occupied, soc, idle):
    one = np.ones(1)
    state = SocketState(np.array([occupied]), soc * one, 0.9 * one, 3 * one, 5 * one)
    assert idle_sockets(state).tolist() == [idle]


def test_a_site_without_pv_or_price_or_feeder_limit_divides_by_nothing():
    scales = SiteScales(0.0, 0.0, 0.0, 0.0, np.inf, np.array([2.0, 2.0, 3.0]), SCALES.charger_efficiency, 6.0)
    site = SiteState(**{**SITE.__dict__, "pv_kwh": np.zeros(4), "load_kwh": np.array(0)})
    values = vector(site, SOCKETS, scales)
    assert np.isfinite(values).all()
    for name in ("pv", "pv_next_3", "load", "price", "carbon_intensity"):
        assert values[LAYOUT.index(name)] == 0
    assert values[LAYOUT.index("feeder_share")] == 1
