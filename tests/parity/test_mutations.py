"""The comparison notices 0.1 %: one term changed for the batch engine only, and parity is lost.

The site has everything at once, and the actions make every term bind. CityLearn is recorded once with the
true site; the batch engine then reads the true one (no difference), and each of the changed ones (one).
"""

from collections.abc import Callable

import numpy as np
import pytest

from iquitos_rl.env import make_env
from iquitos_rl.env.parity import Deviation, Recording, deviations, record
from tests.parity import actions
from tests.parity.pairs import UNIT, Pair
from tests.parity.variants import Choices, Variant, build

pytestmark = pytest.mark.integration

SITE = Choices(
    sockets=4, hours=24 * 8, bess="worn", vehicle="worn", v2g=True, charger_curves=True, min_power=True,
    limit="share", phases=1, headroom=False, violation=False, gaps="some",
)  # fmt: skip
START = 3  # socket_0's vehicle is met in the middle of its session
MORE = 1.001

Change = Callable[[Variant], None]


def whole_site() -> Variant:
    """Every device with every term, at scales where 0.1 % of each is more than the tolerance."""
    site = build(SITE, 8)
    site.building["pv"]["attributes"]["nominal_power"] = 40.0
    site.bess.update(
        capacity=50.0, nominal_power=30.0, efficiency=0.9, depth_of_discharge=0.8, initial_soc=0.5,
        loss_coefficient=0.02, capacity_loss_coefficient=0.02,
        power_efficiency_curve=[[0.0, 0.85], [0.4, 0.95], [1.0, 0.88]],
        capacity_power_curve=[[0.0, 0.9], [0.6, 1.0], [1.0, 0.3]],
    )  # fmt: skip
    for number, charger in enumerate(site.chargers.values()):
        charger.update(
            efficiency=0.93, max_charging_power=7.0 + number, min_charging_power=1.5,
            max_discharging_power=6.0 if number else 0.0, min_discharging_power=1.2 if number else 0.0,
        )  # fmt: skip
        charger.pop("charge_efficiency_curve", None)
        charger.pop("discharge_efficiency_curve", None)
    for socket in (2, 3):
        site.chargers[f"socket_{socket}"].update(
            charge_efficiency_curve=[[0.0, 0.8], [0.5, 0.95], [1.0, 0.9]],
            discharge_efficiency_curve=[[0.0, 0.78], [0.6, 0.94], [1.0, 0.91]],
        )
    for number, vehicle in enumerate(site.vehicles.values()):
        vehicle.update(
            capacity=18.0 + 2 * number, nominal_power=5.5 + number / 2, efficiency=0.9,
            depth_of_discharge=0.85, initial_soc=0.55, loss_coefficient=0.03, capacity_loss_coefficient=0.02,
            power_efficiency_curve=[[0.0, 0.86], [0.5, 0.96], [1.0, 0.9]],
            capacity_power_curve=[[0.0, 0.8], [0.5, 1.0], [1.0, 0.4]],
        )  # fmt: skip
    site.building["charging_constraints"] = {
        "building_limit_kw": 20.0,
        "phases": [{"name": "L1", "limit_kw": 9.0, "chargers": ["socket_1", "socket_2"]}],
        "observations": {"headroom": True, "violation": True},
    }
    return site


def binding_actions(env, steps):
    """A third of the time at random, a third at the ends, and a third at the chargers' least powers."""
    part = steps // 3
    least = np.zeros((steps - 2 * part, *env.action_space.shape))
    for row, action in enumerate(least):
        action[0] = (-1) ** (row // 4)
        socket = row // 2 % 4
        # Just above the least power that a charger takes, and just below 1.001 times it.
        action[1 + socket] = 1.0005 * 1.5 / (7.0 + socket) if row % 2 else -1.0005 * 1.2 / 6.0
    return np.concatenate(
        [
            actions.random_uniform(env, part, 1),
            actions.extreme(env, part, 2),
            np.clip(least, env.action_space.low, 1),
        ]
    )


def scale(entry, key, factor=MORE):
    assert np.any(np.nan_to_num(entry[key])), key
    entry[key] = entry[key] * factor


def scale_curve(entry, key, axis, point):
    assert entry[key][point][axis] != 0, key
    entry[key][point][axis] *= MORE


def bess(key) -> Change:
    return lambda site: scale(site.bess, key)


def charger(key, socket=1) -> Change:
    return lambda site: scale(site.chargers[f"socket_{socket}"], key)


def vehicle(key, socket=1) -> Change:
    return lambda site: scale(site.vehicles[f"ev_{socket}_0"], key)


def curve(of, key, axis, point=1) -> Change:
    return lambda site: scale_curve(of(site), key, axis, point)


def column(table, name) -> Change:
    return lambda site: scale(site.table(table), name)


def one_hour(table, name, row) -> Change:
    """The same term in a single hour."""

    def change(site):
        values = site.table(table)[name].astype(float)
        assert values[row]
        values[row] *= MORE
        site.table(table)[name] = values

    return change


def arrival(socket) -> Change:
    """The state of charge that the row before an arrival announces, which is the one that counts."""

    def change(site):
        table = site.table(f"socket_{socket}")
        state = table["electric_vehicle_charger_state"]
        before = np.flatnonzero((state[:-1] == 3) & (state[1:] == 1) & (np.arange(len(state) - 1) > START))
        table["electric_vehicle_estimated_soc_arrival"][before] *= MORE

    return change


def later_by_an_hour(site):
    """A countdown is a whole number: the least change is an hour."""
    table = site.table("socket_1")
    table["electric_vehicle_departure_time"] += 1


def constraint(key) -> Change:
    return lambda site: scale(site.building["charging_constraints"], key)


def phase(site):
    scale(site.building["charging_constraints"]["phases"][0], "limit_kw")


def pv(site):
    scale(site.building["pv"]["attributes"], "nominal_power")


def unserved(site):
    scale(site.schema["iquitos_rl"], "unserved_energy_kg_per_kwh")


def bess_of(site):
    return site.bess


def charger_of(site):
    return site.chargers["socket_2"]


def vehicle_of(site):
    return site.vehicles["ev_1_0"]


BATTERY_TERMS = (
    "capacity", "nominal_power", "depth_of_discharge", "loss_coefficient", "capacity_loss_coefficient"
)  # fmt: skip
CHARGER_TERMS = (
    "max_charging_power", "min_charging_power", "max_discharging_power", "min_discharging_power"
)  # fmt: skip
MUTATIONS: dict[str, Change] = {
    "PV power": pv,
    "PV generation": column("building", "solar_generation"),
    "PV generation of one hour": one_hour("building", "solar_generation", 12),
    "load": column("building", "non_shiftable_load"),
    "load of one hour": one_hour("building", "non_shiftable_load", 30),
    "price": column("pricing", "electricity_pricing"),
    "carbon intensity": column("carbon_intensity", "carbon_intensity"),
    "price prediction": column("pricing", "electricity_pricing_predicted_2"),
    "weather": column("weather", "outdoor_dry_bulb_temperature"),
    "CO2 of unserved energy": unserved,
    **{f"BESS {key}": bess(key) for key in (*BATTERY_TERMS, "initial_soc")},
    "BESS efficiency curve": curve(bess_of, "power_efficiency_curve", 1),
    "BESS efficiency curve, power": curve(bess_of, "power_efficiency_curve", 0),
    "BESS power curve": curve(bess_of, "capacity_power_curve", 1),
    "BESS power curve, SOC": curve(bess_of, "capacity_power_curve", 0),
    **{f"charger {key}": charger(key) for key in (*CHARGER_TERMS, "efficiency")},
    "charger charging curve": curve(charger_of, "charge_efficiency_curve", 1),
    "charger charging curve, power": curve(charger_of, "charge_efficiency_curve", 0),
    "charger discharging curve": curve(charger_of, "discharge_efficiency_curve", 1),
    "charger discharging curve, power": curve(charger_of, "discharge_efficiency_curve", 0),
    **{f"vehicle {key}": vehicle(key) for key in BATTERY_TERMS},
    "vehicle initial_soc": vehicle("initial_soc", socket=0),
    "vehicle efficiency curve": curve(vehicle_of, "power_efficiency_curve", 1),
    "vehicle efficiency curve, power": curve(vehicle_of, "power_efficiency_curve", 0),
    "vehicle power curve": curve(vehicle_of, "capacity_power_curve", 1),
    "vehicle power curve, SOC": curve(vehicle_of, "capacity_power_curve", 0),
    "building limit": constraint("building_limit_kw"),
    "phase limit": phase,
    "arrival SOC": arrival(1),
    "required SOC": column("socket_1", "electric_vehicle_required_soc_departure"),
    "departure countdown": later_by_an_hour,
}


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Recording:
    """CityLearn on the true site."""
    schema = whole_site().write(tmp_path_factory.mktemp("true"))
    env = make_env(
        schema, engine="citylearn", observation="raw", reference=UNIT, mask_idle=False, start_step=START
    )
    recording = record(env, binding_actions(env, env.episode_steps), start_step=START)
    assert recording["terminated"][-1] == 1
    return recording


def batch_differences(site, folder, reference):
    """What the batch engine with this site does otherwise than CityLearn with the true one."""
    schema = site.write(folder)
    found: dict[str, Deviation] = {}
    for kind in ("raw", "features"):
        env = make_env(
            schema, engine="batch", observation=kind, reference=UNIT, mask_idle=False, start_step=START
        )
        again = record(env, reference.actions, start_step=START)
        found |= {k: d for k, d in deviations(reference, again).items() if d.first_step is not None}
    return found


def test_the_true_site_is_equal(tmp_path, reference):
    assert batch_differences(whole_site(), tmp_path, reference) == {}


@pytest.mark.parametrize("term", MUTATIONS)
def test_a_thousandth_of_a_term_is_noticed(tmp_path, reference, term):
    site = whole_site()
    MUTATIONS[term](site)
    assert batch_differences(site, tmp_path, reference) != {}


def test_with_all_terms_changed_for_both_they_are_equal_again(tmp_path):
    """So that what was noticed are the terms themselves."""
    site = whole_site()
    for change in MUTATIONS.values():
        change(site)
    pair = Pair(site.write(tmp_path), mask_idle=False, start_step=START)
    made = binding_actions(pair.citylearn, pair.citylearn.episode_steps)
    assert pair.differences(record(pair.citylearn, made, start_step=START)) == []


@pytest.mark.parametrize("device", ["BESS", "vehicle"])
def test_a_batterys_constant_efficiency_is_no_term_where_it_has_a_curve(tmp_path, reference, device):
    """CityLearn replaces it at every charge; the schemas that the engine takes always have the curve."""
    site = whole_site()
    scale(site.bess if device == "BESS" else site.vehicles["ev_1_0"], "efficiency")
    assert batch_differences(site, tmp_path, reference) == {}
