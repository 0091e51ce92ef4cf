"""CityLearn itself on our datasets: it reads them, and no control there is what the closed form says."""

import shutil

import numpy as np
import pytest

from iquitos_rl.site import build_dataset

pytestmark = pytest.mark.integration


def open_citylearn(schema, **options):
    from citylearn.citylearn import CityLearnEnv

    return CityLearnEnv(schema, **options)


def roll_out_no_control(env, steps):
    """Every socket at 1.0 and the BESS at 0: hourly net and EV consumption, and the departures."""
    env.reset()
    building = env.buildings[0]
    action = [[0.0 if name == "electrical_storage" else 1.0 for name in env.action_names[0]]]
    net, draw, satisfied, unserved = np.zeros(steps), np.zeros(steps), [], []
    for step in range(steps):
        plugged = [(c, c.connected_electric_vehicle) for c in building.electric_vehicle_chargers]
        env.step(action)
        net[step] = building.net_electricity_consumption[step]
        draw[step] = sum(float(charger.electricity_consumption[step]) for charger, _ in plugged)
        for charger, vehicle in plugged:
            table = charger.charger_simulation
            ids = table.electric_vehicle_session_id
            if vehicle is not None and ids[step] != ids[step + 1]:
                soc = float(vehicle.battery.soc[step])
                required = float(table.electric_vehicle_required_soc_departure[step])
                satisfied.append(min(1.0, soc / required))
                unserved.append(max(0.0, required - soc) * vehicle.battery.capacity)
    return net, draw, satisfied, unserved


def assert_closed_form_agrees(dataset, steps):
    env = open_citylearn(dataset.schema_path("test"), active_observations=["hour"])
    net, draw, satisfied, unserved = roll_out_no_control(env, steps)
    stored = dataset.no_control("test").hourly.iloc[:steps]
    expected_net = (stored["grid_import_kwh"] - stored["grid_export_kwh"]).to_numpy()
    assert np.abs(net - expected_net).max() < 1e-3
    assert np.abs(draw - stored["ev_draw_kwh"].to_numpy()).max() < 1e-3
    assert np.maximum(net, 0).sum() == pytest.approx(stored["grid_import_kwh"].sum(), rel=1e-5)
    assert draw.sum() == pytest.approx(stored["ev_draw_kwh"].sum(), rel=1e-5)
    assert len(satisfied) == stored["ev_departures"].sum()
    shortfall = len(satisfied) - sum(satisfied)
    assert shortfall == pytest.approx(stored["satisfaction_shortfall"].sum(), rel=1e-5)
    assert sum(unserved) == pytest.approx(stored["unserved_energy_kwh"].sum(), rel=1e-5)


@pytest.mark.slow
def test_a_whole_year_under_no_control_is_what_the_closed_form_says(dataset):
    assert_closed_form_agrees(dataset, 8759)


@pytest.mark.parametrize("kind", ["csv", "no_pv", "no_bess", "neither", "v2g", "one_socket"])
def test_ten_days_of_other_sites_agree_as_well(kind, site_with, v2g_site, station, tmp_path):
    moto = station.sockets[0].model_dump(mode="json")
    site = {
        "csv": site_with(),
        "no_pv": site_with(pv=None),
        "no_bess": site_with(bess=None),
        "neither": site_with(pv=None, bess=None),
        "v2g": v2g_site,
        "one_socket": site_with(sockets=[{**moto, "count": 1}], feeder_limit_kw=1.2),
    }[kind]
    dataset = build_dataset(site, tmp_path / kind, 3, table_format="csv" if kind == "csv" else "parquet")
    assert_closed_form_agrees(dataset, 240)


def test_the_full_station_agrees_over_two_days(station, tmp_path):
    site = station.model_copy(update={"years": station.years.model_copy(update={"train": 1})})
    assert_closed_form_agrees(build_dataset(site, tmp_path / "station", 3), 48)


def test_the_flat_observation_is_what_the_schema_lists(dataset):
    env = open_citylearn(dataset.schema_path("test"))
    names = env.observation_names[0]
    assert len(names) == 20 + 6 * 5
    assert names[:3] == ["month", "day_type", "hour"]
    assert "electrical_storage_soc" in names
    assert not any("headroom" in name or "incoming" in name or "violation" in name for name in names)
    observation, _ = env.reset()
    values = dict(zip(names, observation[0], strict=True))
    assert values["hour"] == 1
    assert values["electrical_storage_soc"] == pytest.approx(0.2)
    sockets = [*(f"moto_00{number}" for number in range(1, 6)), "mototaxi_001"]
    assert env.action_names[0] == ["electrical_storage", *(f"electric_vehicle_storage_{s}" for s in sockets)]
    assert env.action_space[0].low.tolist() == [-1.0] + [0.0] * 6


def test_sockets_that_may_discharge_have_a_lower_limit_of_minus_one(v2g_site, tmp_path):
    env = open_citylearn(build_dataset(v2g_site, tmp_path / "v2g", 3).schema_path("train"))
    assert env.action_space[0].low.tolist() == [-1.0, 0.0, 0.0, 0.0, -1.0, -1.0]


def test_sites_without_a_bess_have_no_action_for_it(site_with, tmp_path):
    env = open_citylearn(build_dataset(site_with(bess=None), tmp_path / "x", 3).schema_path("train"))
    assert env.action_space[0].shape == (6,)
    assert "electrical_storage_soc" not in env.observation_names[0]


def test_a_moved_dataset_is_found_wherever_it_lies(copied, tmp_path, monkeypatch):
    moved = tmp_path / "a place" / "further" / "off"
    shutil.move(copied, moved)
    monkeypatch.chdir(moved / "test")
    for schema in (moved / "test" / "year_0" / "schema.json", "year_0/schema.json"):
        env = open_citylearn(schema, active_observations=["hour"])
        assert env.time_steps == 8760


def test_nothing_about_the_batteries_is_random(dataset):
    env = open_citylearn(dataset.schema_path("test"), active_observations=["hour"], random_seed=123)
    bess = env.buildings[0].electrical_storage
    assert bess.efficiency == 0.9
    assert bess.power_efficiency_curve.tolist() == [[0.0, 1.0], [0.9, 0.9]]  # as rows: x, then y
    assert bess.capacity_power_curve.tolist() == [[0.0, 1.0], [1.0, 1.0]]
    assert (bess.loss_coefficient, bess.capacity_loss_coefficient) == (0, 0)
    for vehicle in env.electric_vehicles:
        assert vehicle.battery.efficiency == 1.0
        assert vehicle.battery.power_efficiency_curve.tolist() == [[0.0, 1.0], [1.0, 1.0]]
        assert (vehicle.battery.loss_coefficient, vehicle.battery.capacity_loss_coefficient) == (0, 0)


def test_standby_losses_of_an_idle_bess_are_citylearns(site_with, tmp_path):
    site = site_with(bess={"standby_loss_per_hour": 0.01, "initial_soc": 0.6})
    dataset = build_dataset(site, tmp_path / "losses", 3)
    env = open_citylearn(dataset.schema_path("test"), active_observations=["hour"])
    for steps in (24, 150):  # before the floor is reached, and after
        roll_out_no_control(env, steps)
        bess = env.buildings[0].electrical_storage
        lost = (0.6 - float(bess.soc[steps - 1])) * bess.capacity
        reference = dataset.no_control("test").reference(0, steps)
        exported = dataset.no_control("test").hourly["grid_export_kwh"][:steps].sum()
        assert reference.objectives[1] - exported == pytest.approx(lost, rel=1e-4)
