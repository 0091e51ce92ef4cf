"""What the batch engine does not model it refuses when it loads a site: by name, and with the way out."""

import numpy as np
import pytest

from iquitos_rl.env import make_env
from iquitos_rl.env.batch import UnsupportedSchemaError
from tests.parity.pairs import UNIT, Pair
from tests.parity.variants import BATTERY, Choices, build

PLAIN = Choices(sockets=2, hours=60, gaps="long")
OTHER_CLASS = "citylearn.energy_model.SomethingElse"


def second_building(site):
    site.schema["buildings"]["annex"] = site.copy().building


def heat(column):
    def change(site):
        site.table("building")[column] = site.table("building")[column] + np.eye(1, 60, 5)[0]

    return change


def in_building(**keys):
    return lambda site: site.building.update(keys)


def in_schema(**keys):
    return lambda site: site.schema.update(keys)


def in_bess(**keys):
    return lambda site: site.building["electrical_storage"].update(keys)


def without(which, key):
    """A battery without an attribute that CityLearn then draws at random."""
    return lambda site: (site.bess if which == "bess" else site.vehicles["ev_0_0"]).pop(key)


def drawn_between(key):
    return lambda site: site.bess.update({key: [0.1, 0.2]})


def rows_two_hours_apart(site):
    table = site.table("building")
    table["hour"] = (2 * np.arange(60)) % 24 + 1


def active(kind, name):
    def change(site):
        site.schema[kind][name] = {"active": True, "shared_in_central_agent": True}

    return change


def charger(**keys):
    return lambda site: site.building["chargers"]["socket_1"].update(keys)


def vehicle(**keys):
    return lambda site: site.schema["electric_vehicles_def"]["ev_0_0"].update(keys)


DEVICE = {"type": "citylearn.energy_model.HeatPump", "attributes": {"nominal_power": 5.0}}
TANK = {"type": "citylearn.energy_model.StorageTank", "attributes": {"capacity": 5.0}}

# what: (a change of the plain site, words that the refusal names)
REFUSED = {
    "two buildings": (second_building, "buildings"),
    "cooling demand": (heat("cooling_demand"), "cooling_demand"),
    "heating demand": (heat("heating_demand"), "heating_demand"),
    "hot water demand": (heat("dhw_demand"), "dhw_demand"),
    **{
        f"{name} device": (in_building(**{name: DEVICE if "device" in name else TANK}), name)
        for name in (
            "cooling_device", "heating_device", "dhw_device", "cooling_storage", "heating_storage",
            "dhw_storage",
        )
    },
    "electrical service": (
        in_building(electrical_service={"mode": "single_phase", "limits": {"total": {"import_kw": 5.0}}}),
        "electrical_service",
    ),
    "deferrable appliances": (
        in_building(
            deferrable_appliances={
                "washer": {"cycle_profiles_file": "a", "flexibility_schedule_file": "b"}
            }
        ),
        "deferrable_appliances",
    ),
    "washing machines": (in_building(washing_machines={"washer": {"file": "a"}}), "washing_machines"),
    "escalators": (in_building(escalators={"up": {"escalator_simulation": "a"}}), "escalators"),
    "power outage": (in_building(power_outage={"simulate_power_outage": True}), "power_outage"),
    "thermal dynamics": (
        in_building(dynamics={"type": "citylearn.dynamics.LSTMDynamics", "attributes": {"filename": "a"}}),
        "dynamics",
    ),
    "occupants": (in_building(occupant={"type": "citylearn.occupant.Occupant"}), "occupant"),
    "noisy data": (in_building(noise_std=0.1), "noise_std"),
    "noisy chargers": (charger(noise_std=0.1), "noise_std"),
    "autosized PV": (lambda site: site.building["pv"].update(autosize=True), "pv.autosize"),
    "autosized BESS": (in_bess(autosize=True), "electrical_storage.autosize"),
    "another building class": (
        in_building(type="citylearn.building.LSTMDynamicsBuilding"), "LSTMDynamicsBuilding"
    ),
    "another PV class": (lambda site: site.building["pv"].update(type=OTHER_CLASS), "SomethingElse"),
    "another BESS class": (in_bess(type=OTHER_CLASS), "SomethingElse"),
    "another charger class": (charger(type=OTHER_CLASS), "SomethingElse"),
    "another vehicle class": (vehicle(type=OTHER_CLASS), "SomethingElse"),
    "quarter hours": (in_schema(seconds_per_time_step=900), "seconds_per_time_step"),
    "rows two hours apart": (rows_two_hours_apart, "hour"),
    **{
        f"random {key} of the BESS": (without("bess", key), key)
        for key in ("power_efficiency_curve", "capacity_power_curve", "loss_coefficient",
                    "capacity_loss_coefficient")
    },
    "BESS loss drawn between two values": (drawn_between("loss_coefficient"), "loss_coefficient"),
    **{
        f"random {key} of a vehicle": (without("vehicle", key), key)
        for key in ("power_efficiency_curve", "capacity_power_curve", "capacity_loss_coefficient",
                    "initial_soc")
    },
    "topology events": (
        in_schema(topology_events=[{"time_step": 3, "operation": "remove_member", "target": "site"}]),
        "topology_events",
    ),
    "dynamic topology": (in_schema(topology_mode="dynamic"), "topology_mode"),
    "community market": (in_schema(community_market={"enabled": True}), "community_market"),
    "demand response": (
        in_schema(demand_response={"enabled": True, "requests_file": "a"}), "demand_response"
    ),
    "robustness": (in_schema(robustness={"enabled": True, "events_file": "a"}), "robustness"),
    "entity interface": (in_schema(interface="entity"), "interface"),
    "one agent for each building": (in_schema(central_agent=False), "central_agent"),
    "padded last row": (in_schema(terminal_observation_padding=True), "terminal_observation_padding"),
    "a heat pump's action": (active("actions", "cooling_device"), "cooling_device"),
    "an appliance's action": (active("actions", "deferrable_appliance"), "deferrable_appliance"),
    "a BESS without action": (in_building(inactive_actions=["electrical_storage"]), "electrical_storage"),
}  # fmt: skip
NOT_SHOWN = ("cooling_device_efficiency", "heating_device_efficiency", "dhw_device_efficiency")


def refused(site, folder, **options):
    """The refusal of a site. That it is complete: the message names every feature, and the way out."""
    schema = site.write(folder)
    with pytest.raises(UnsupportedSchemaError) as caught:
        make_env(schema, engine="batch", reference=UNIT, **options)
    error = caught.value
    assert isinstance(error, ValueError)
    assert error.features
    assert all(isinstance(feature, str) and feature in str(error) for feature in error.features)
    assert "engine: citylearn" in str(error)
    assert str(schema) in str(error)
    assert "\n" not in str(error)
    return error


@pytest.mark.parametrize("feature", REFUSED)
def test_a_feature_that_is_not_modelled_is_refused_by_name(tmp_path, feature):
    change, word = REFUSED[feature]
    site = build(PLAIN)
    change(site)
    error = refused(site, tmp_path)
    assert any(word in line for line in error.features), error.features


def test_all_that_is_missing_is_named_at_once(tmp_path):
    site = build(PLAIN)
    site.schema["robustness"] = {"enabled": True}
    site.building["noise_std"] = 0.2
    del site.bess["capacity_power_curve"]
    features = refused(site, tmp_path).features
    for word in ("robustness", "noise_std", "capacity_power_curve"):
        assert any(word in feature for feature in features)


@pytest.mark.parametrize("name", NOT_SHOWN)
def test_an_observation_that_the_engine_lacks_is_refused_where_it_is_wanted(tmp_path, name):
    site = build(PLAIN)
    active("observations", name)(site)
    assert any(name in feature for feature in refused(site, tmp_path, observation="raw").features)
    make_env(tmp_path / "schema.json", engine="batch", reference=UNIT)  # features do not need it


RARE_OBSERVATIONS = (
    *(f"{kind}_{what}" for kind in ("cooling", "heating", "dhw") for what in (
        "demand", "storage_soc", "electricity_consumption", "storage_electricity_consumption",
    )),
    "electrical_storage_electricity_consumption", "power_outage", "occupant_count", "comfort_band",
    "hvac_mode", "daylight_savings_status", "average_unmet_cooling_setpoint_difference",
    "indoor_relative_humidity",
    "indoor_dry_bulb_temperature", "indoor_dry_bulb_temperature_cooling_set_point",
    "indoor_dry_bulb_temperature_heating_set_point", "indoor_dry_bulb_temperature_cooling_delta",
    "indoor_dry_bulb_temperature_heating_delta", "minutes", "seconds", "deferrable_appliance_running",
    "escalator_state", "charging_constraint_violation_kwh", "charging_building_headroom_kw",
)  # fmt: skip


@pytest.mark.integration
def test_rare_observations_are_either_refused_or_equal(tmp_path):
    site, shown = build(PLAIN), []
    for name in RARE_OBSERVATIONS:
        alone = build(PLAIN)
        active("observations", name)(alone)
        try:
            make_env(alone.write(tmp_path / name), engine="batch", observation="raw", reference=UNIT)
        except UnsupportedSchemaError:
            continue
        active("observations", name)(site)
        shown.append(name)
    assert len(shown) > 20
    pair = Pair(site.write(tmp_path))
    assert pair.interface_differences() == []
    assert pair.differences(pair.record("extreme", 0)) == []


def stay(site, socket, rows, vehicle):
    """Put a vehicle at a socket for some rows that were free."""
    table = site.table(f"socket_{socket}")
    rows = np.array(rows)
    table["electric_vehicle_charger_state"][rows] = 1
    table["electric_vehicle_id"][rows] = vehicle
    table["electric_vehicle_departure_time"][rows] = rows[-1] - rows + 1
    table["electric_vehicle_required_soc_departure"][rows] = 80.0
    table["electric_vehicle_estimated_soc_arrival"][[rows[0] - 1, rows[0]]] = 30.0
    table["electric_vehicle_session_id"][rows] = f"extra-{socket}-{rows[0]}"


def empty(site):
    """A site whose sockets nobody visits."""
    for socket in range(2):
        table = site.table(f"socket_{socket}")
        table["electric_vehicle_charger_state"][:] = 3
        table["electric_vehicle_id"][:] = ""
        table["electric_vehicle_session_id"][:] = ""
        for name, column in table.items():
            if name not in (
                "electric_vehicle_charger_state", "electric_vehicle_id", "electric_vehicle_session_id"
            ):  # fmt: skip
                column[:] = np.nan
    return site


def test_a_vehicle_at_two_sockets_at_once_is_refused(tmp_path):
    site = empty(build(PLAIN))
    stay(site, 0, [10, 11, 12], "ev_0_0")
    stay(site, 1, [12, 13], "ev_0_0")
    assert "ev_0_0" in str(refused(site, tmp_path))


def test_a_vehicle_that_moves_within_the_hour_is_refused(tmp_path):
    site = empty(build(PLAIN))
    stay(site, 0, [10, 11, 12], "ev_0_0")
    stay(site, 1, [13, 14], "ev_0_0")
    assert "ev_0_0" in str(refused(site, tmp_path))


@pytest.mark.integration
def test_a_vehicle_that_moves_with_an_hour_between_is_not(tmp_path):
    site = empty(build(PLAIN))
    stay(site, 0, [10, 11, 12], "ev_0_0")
    stay(site, 1, [14, 15], "ev_0_0")
    pair = Pair(site.write(tmp_path))
    assert pair.differences(pair.record("random", 0)) == []


def test_an_ageing_vehicle_at_two_sockets_is_refused(tmp_path):
    site = empty(build(PLAIN))
    site.vehicles["ev_0_0"]["capacity_loss_coefficient"] = 0.01
    stay(site, 0, [10, 11], "ev_0_0")
    stay(site, 1, [20, 21], "ev_0_0")
    assert "capacity loss" in str(refused(site, tmp_path))


def test_an_ageing_vehicle_that_shares_its_socket_is_refused(tmp_path):
    site = empty(build(PLAIN))
    site.vehicles["ev_0_0"]["capacity_loss_coefficient"] = 0.01
    stay(site, 0, [10, 11], "ev_0_0")
    stay(site, 0, [20, 21], "ev_1_0")
    assert "capacity loss" in str(refused(site, tmp_path))


def test_an_arrival_without_state_of_charge_is_refused(tmp_path):
    site = empty(build(PLAIN))
    stay(site, 0, [10, 11], "ev_0_0")
    site.table("socket_0")["electric_vehicle_estimated_soc_arrival"][:] = np.nan
    assert "state of charge" in str(refused(site, tmp_path))


def test_another_vehicle_in_the_very_next_hour_is_refused_for_raw_observations_only(tmp_path):
    """CityLearn shows the random drift of the newcomer's battery in the hour before it came."""
    site = empty(build(PLAIN))
    stay(site, 0, [10, 11], "ev_0_0")
    stay(site, 0, [12, 13], "ev_1_0")
    refused(site, tmp_path, observation="raw")
    make_env(tmp_path / "schema.json", engine="batch", reference=UNIT)


def test_an_arrival_that_is_neither_announced_nor_repeats_its_soc_is_refused_for_raw_observations(tmp_path):
    """The row before says with what it comes; but CityLearn shows what the battery drifted to until then."""
    site = empty(build(PLAIN))
    stay(site, 0, [10, 11], "ev_0_0")
    site.table("socket_0")["electric_vehicle_estimated_soc_arrival"][10] = np.nan
    refused(site, tmp_path, observation="raw")
    make_env(tmp_path / "schema.json", engine="batch", reference=UNIT)


def absolute_pv(site):
    site.building["pv"]["attributes"]["generation_mode"] = "absolute"
    site.table("building")["solar_generation"] /= 100


def unset_charger_powers(site):
    for attributes in site.chargers.values():
        attributes.clear()


def excluded_building(site):
    second_building(site)
    site.schema["buildings"]["annex"]["include"] = False


def vehicle_unknown_to_the_schema(site):
    site.schema["electric_vehicles_def"]["ev_0_0"]["include"] = False


def free_sockets_in_state_0(site):
    state = site.table("socket_0")["electric_vehicle_charger_state"]
    state[state == 3] = 0


def no_least_depth(site):
    for attributes in (site.bess, *site.vehicles.values()):
        del attributes["depth_of_discharge"], attributes["efficiency"]
    del site.bess["initial_soc"]


def everything_switched_off(site):
    off = {
        "electrical_service": None, "power_outage": {"simulate_power_outage": False}, "noise_std": 0.0,
        "deferrable_appliances": {}, "cooling_device": None,
    }  # fmt: skip
    site.building.update(off)
    site.schema |= {"community_market": {"enabled": False}, "topology_events": [], "topology_mode": "static"}


MODELLED_OR_REFUSED = {
    "PV in kWh": absolute_pv,
    "chargers without attributes": unset_charger_powers,
    "a building that is not included": excluded_building,
    "a vehicle that is not included": vehicle_unknown_to_the_schema,
    "free sockets in state 0": free_sockets_in_state_0,
    "batteries with default depths": no_least_depth,
    "no pricing": lambda site: site.building.pop("pricing"),
    "no carbon intensity": lambda site: site.building.pop("carbon_intensity"),
    "observations of constraints by the short flag": lambda site: site.building.update(
        charging_constraints={"building_limit_kw": 4.0, "expose_observations": True}
    ),
    "an infinite limit": lambda site: site.building.update(
        charging_constraints={
            "building_limit_kw": "inf", "phases": [{"limit_kw": 2.0, "chargers": ["socket_0"]}]
        }
    ),
    "a limit in words": lambda site: site.building.update(charging_constraints={"building_limit_kw": "4.0"}),
    "a socket without action": lambda site: site.building.update(
        inactive_actions=["electric_vehicle_storage_socket_0"]
    ),
    "an observation that is switched off": lambda site: site.building.update(
        inactive_observations=["month", "connected_electric_vehicle_at_charger_soc"]
    ),
    "features that are switched off": everything_switched_off,
}  # fmt: skip


@pytest.mark.integration
@pytest.mark.parametrize("feature", MODELLED_OR_REFUSED)
def test_what_is_rare_is_either_refused_or_equal(tmp_path, feature):
    site = build(PLAIN)
    MODELLED_OR_REFUSED[feature](site)
    schema = site.write(tmp_path)
    try:
        pair = Pair(schema, episode_steps=50)
    except UnsupportedSchemaError:
        refused(site, tmp_path, observation="raw")
        assert feature != "features that are switched off"
        return
    for start in (0, 9):
        assert pair.differences(pair.record("extreme", start)) == []


def test_the_plain_site_itself_is_modelled(tmp_path):
    """Otherwise every refusal above might be the plain site's own."""
    assert build(PLAIN).bess.keys() >= {"capacity"}
    assert BATTERY.endswith("Battery")
    for observation in ("raw", "features"):
        make_env(build(PLAIN).write(tmp_path), engine="batch", observation=observation, reference=UNIT)
