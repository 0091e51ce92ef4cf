"""Small sites of every kind that the batch engine models, written as CityLearn's own schema and tables.

A `Variant` is a schema and its tables in memory, so that tests can change one term before writing it. `build`
makes one from `Choices` and a seed; `choices` is the hypothesis strategy over all kinds.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from iquitos_rl.site.storage import write_json, write_table
from tests.parity.sessions import Timetable, draw_timetable, socket_table

BATTERY = "citylearn.energy_model.Battery"
BUILDING = "building"
WEATHER = (
    "outdoor_dry_bulb_temperature",
    "outdoor_relative_humidity",
    "diffuse_solar_irradiance",
    "direct_solar_irradiance",
)
SOCKET_OBSERVATIONS = (
    "electric_vehicle_charger_connected_state",
    "connected_electric_vehicle_at_charger_departure_time",
    "connected_electric_vehicle_at_charger_required_soc_departure",
    "connected_electric_vehicle_at_charger_soc",
    "connected_electric_vehicle_at_charger_battery_capacity",
)
INCOMING_OBSERVATIONS = (
    "electric_vehicle_charger_incoming_state",
    "incoming_electric_vehicle_at_charger_estimated_arrival_time",
    "incoming_electric_vehicle_at_charger_estimated_soc_arrival",
)


@dataclass(frozen=True)
class Choices:
    """What kind of site. The defaults are the plainest one: flat curves, no losses, one vehicle a socket."""

    sockets: int = 2
    hours: int = 96
    first_row: int = 0
    first_hour: int = 0
    table_format: str = "parquet"
    pv: bool = True
    bess: str = "plain"  # or none, curved, worn
    large: bool = False  # PV, load and BESS of megawatts, where single precision is coarse
    limit: str = "share"  # or none, zero, ample, unconstrained: no section at all
    phases: int = 0
    headroom: bool | None = False
    violation: bool | None = False
    phase_encoding: bool = False
    v2g: bool = False
    charger_curves: bool = False
    min_power: bool = False
    vehicle: str = "flat"  # or curved, lossy (curved, with standby loss and a floor), worn (and ageing)
    sharing: bool = False
    roaming: bool = False
    gaps: str = "some"  # or none: back-to-back sessions throughout, long
    long_stays: bool = False  # of days: rounding makes full vehicles less than full in the end
    swaps: bool = False  # another vehicle in the hour after a session: observation="raw" shows its drift
    session_ids: str = "each"  # or none, blank, same: one for all sessions
    announce: int = 0  # hours before an arrival in state 2
    named: bool = False  # free rows name the next vehicle
    current_soc: bool = False
    fractions: bool = False  # states of charge as fractions, not percent
    extremes: bool = False  # arrivals full, empty or below the floor; required SOC 0, missing or changing
    countdown_last: int = 1  # the countdown in the last connected row
    all_observations: bool = True


@st.composite
def choices(draw: st.DrawFn, *, raw: bool = True) -> Choices:
    """Any site. With ``raw`` none in which CityLearn's own observation shows a random drift."""
    vehicle = draw(st.sampled_from(["flat", "curved", "lossy", "worn"]))
    alone = vehicle == "worn"
    flag = st.booleans()
    return Choices(
        sockets=draw(st.integers(1, 12)),
        hours=draw(st.integers(30, 200)),
        first_row=draw(st.sampled_from([0, 0, 7, 30])),
        first_hour=draw(st.integers(0, 23)),
        table_format=draw(st.sampled_from(["parquet", "csv"])),
        pv=draw(st.sampled_from([True, True, True, False])),
        bess=draw(st.sampled_from(["plain", "curved", "worn", "none"])),
        large=draw(st.sampled_from([False, False, True])),
        limit=draw(st.sampled_from(["share", "share", "ample", "zero", "none", "unconstrained"])),
        phases=draw(st.sampled_from([0, 0, 1, 2, 3])),
        headroom=draw(st.sampled_from([False, True, None])),
        violation=draw(st.sampled_from([False, True, None])),
        phase_encoding=draw(flag),
        v2g=draw(flag),
        charger_curves=draw(flag),
        min_power=draw(flag),
        vehicle=vehicle,
        sharing=not alone and draw(flag),
        roaming=not alone and draw(flag),
        gaps=draw(st.sampled_from(["some", "none", "long"])),
        long_stays=draw(st.sampled_from([False, False, True])),
        swaps=not raw and draw(flag),
        session_ids=draw(st.sampled_from(["each", "each", "none", "blank", "same"])),
        announce=draw(st.sampled_from([0, 0, 1, 3])),
        named=draw(flag),
        current_soc=draw(st.sampled_from([False, False, True])),
        fractions=draw(flag),
        extremes=draw(flag),
        countdown_last=draw(st.sampled_from([1, 1, 1, 0])),
        all_observations=draw(flag),
    )


@dataclass
class Variant:
    """A schema and its tables by file name."""

    schema: dict[str, Any]
    tables: dict[str, dict[str, Any]]

    def write(self, folder: Path) -> Path:
        """Write it; returns the path of the schema."""
        for name, columns in self.tables.items():
            write_table(columns, folder / name)
        write_json(self.schema, folder / "schema.json")
        return folder / "schema.json"

    def copy(self) -> Variant:
        """A deep copy, to be changed."""
        return copy.deepcopy(self)

    @property
    def building(self) -> dict[str, Any]:
        """The building's part of the schema."""
        (building,) = self.schema["buildings"].values()
        return building

    @property
    def chargers(self) -> dict[str, dict[str, Any]]:
        """Attributes of each charger."""
        return {name: entry["attributes"] for name, entry in self.building["chargers"].items()}

    @property
    def vehicles(self) -> dict[str, dict[str, Any]]:
        """Battery attributes of each vehicle."""
        definitions = self.schema["electric_vehicles_def"].items()
        return {name: entry["battery"]["attributes"] for name, entry in definitions}

    @property
    def bess(self) -> dict[str, Any]:
        """Attributes of the BESS."""
        return self.building["electrical_storage"]["attributes"]

    @property
    def steps(self) -> int:
        """Hours that the data has steps for."""
        return self.schema["simulation_end_time_step"] - self.schema["simulation_start_time_step"]

    def table(self, name: str) -> dict[str, Any]:
        """Columns of a table by its name without folder and suffix."""
        (found,) = (path for path in self.tables if Path(path).stem == name)
        return self.tables[found]


def build(choices: Choices, seed: int = 0) -> Variant:
    """The site of these choices; the seed chooses all its numbers."""
    random = np.random.default_rng(seed)
    names = [f"socket_{k}" for k in range(choices.sockets)]
    rows = choices.first_row + choices.hours + (choices.first_row > 0) * 5  # rows after the end, too
    timetable = draw_timetable(choices, rows, random)
    suffix = choices.table_format
    size = 60.0 if choices.large else 1.0
    tables = {f"{name}.{suffix}": t for name, t in _site_tables(choices, rows, random).items()}
    for number, name in enumerate(names):
        tables[f"chargers/{name}.{suffix}"] = socket_table(choices, timetable, number, rows, random)
    building: dict[str, Any] = {
        "include": True,
        "energy_simulation": f"{BUILDING}.{suffix}",
        "weather": f"weather.{suffix}",
        "carbon_intensity": f"carbon_intensity.{suffix}",
        "pricing": f"pricing.{suffix}",
        "inactive_observations": [],
        "inactive_actions": [],
    }
    if choices.pv:
        building["pv"] = {
            "type": "citylearn.energy_model.PV",
            "autosize": False,
            "attributes": {"nominal_power": size * float(random.uniform(2, 60))},
        }
    if choices.bess != "none":
        attributes = _battery(random, choices.bess, size * random.uniform(4, 80), (0.2, 1.2))
        building["electrical_storage"] = {"type": BATTERY, "autosize": False, "attributes": attributes}
    building["chargers"] = {
        name: {
            "type": "citylearn.electric_vehicle_charger.Charger",
            "charger_simulation": f"chargers/{name}.{suffix}",
            "attributes": _charger(choices, random),
        }
        for name in names
    }
    rated = sum(c["attributes"]["max_charging_power"] for c in building["chargers"].values())
    if choices.limit != "unconstrained":
        building["charging_constraints"] = _constraints(choices, names, rated, random)
    schema = {
        "root_directory": None,
        "random_seed": int(seed % 1000),
        "central_agent": True,
        "interface": "flat",
        "seconds_per_time_step": 3600,
        "simulation_start_time_step": choices.first_row,
        "simulation_end_time_step": choices.first_row + choices.hours - 1,
        "episode_time_steps": None,
        "rolling_episode_split": False,
        "random_episode_split": False,
        "observations": _observations(choices, random),
        "actions": {
            **({"electrical_storage": {"active": True}} if choices.bess != "none" else {}),
            "electric_vehicle_storage": {"active": True},
        },
        "reward_function": {"type": "citylearn.reward_function.RewardFunction", "attributes": {}},
        "buildings": {"site": building},
        "electric_vehicles_def": _vehicles(choices, timetable, random),
        "iquitos_rl": {"unserved_energy_kg_per_kwh": 1.75},
    }
    return Variant(schema, tables)


def _curve(random: np.random.Generator, low: float, high: float) -> list[list[float]]:
    """Two to five points; sometimes short of 0 or 1, where CityLearn goes on along the nearest piece."""
    inner = np.sort(random.uniform(0.12, 0.88, random.integers(0, 4)))
    while len(inner) > 1 and np.diff(inner).min() < 0.05:
        inner = inner[:-1]
    first, last = float(random.choice([0.0, 0.0, 0.05])), float(random.choice([1.0, 1.0, 0.95]))
    xs = [first, *inner.tolist(), last]
    ys = random.uniform(low, high, len(xs)).tolist()
    # Gentle slopes where it goes on, lest an efficiency leave (0, 1].
    if first > 0:
        ys[0] = ys[1] + random.uniform(-0.02, 0.02)
    if last < 1:
        ys[-1] = ys[-2] + random.uniform(-0.02, 0.02)
    return [[x, y] for x, y in zip(xs, ys, strict=True)]


def _battery(
    random: np.random.Generator, kind: str, capacity: float, c_rate: tuple[float, float]
) -> dict[str, Any]:
    """Every attribute that CityLearn would otherwise draw."""
    plain = kind in ("flat", "plain")
    lossy = kind in ("lossy", "worn")
    efficiency = 1.0 if kind == "flat" else float(random.uniform(0.8, 1.0))
    falling = [[0.0, 1.0], [float(random.uniform(0.5, 0.9)), 1.0], [1.0, float(random.uniform(0.0, 0.5))]]
    return {
        "capacity": float(capacity),
        "nominal_power": float(capacity * random.uniform(*c_rate)),
        "efficiency": efficiency,
        "power_efficiency_curve": (
            [[0.0, efficiency], [1.0, efficiency]] if plain else _curve(random, 0.75, 0.95)
        ),
        "capacity_power_curve": (
            [[0.0, 1.0], [1.0, 1.0]] if plain else falling if random.random() < 0.5
            else _curve(random, 0.2, 1.2)
        ),
        "depth_of_discharge": float(random.uniform(0.6, 0.95)) if lossy or kind == "plain" else 1.0,
        "initial_soc": float(random.uniform(0.0, 1.0)),
        "loss_coefficient": float(random.uniform(0.001, 0.02)) if lossy else 0.0,
        "capacity_loss_coefficient": float(random.uniform(0.001, 0.02)) if kind == "worn" else 0.0,
    }  # fmt: skip


def _vehicles(choices: Choices, timetable: Timetable, random: np.random.Generator) -> dict[str, Any]:
    definitions = {}
    for name in timetable.vehicles:
        attributes = _battery(random, choices.vehicle, random.uniform(3, 40), (0.3, 2.0))
        definitions[name] = {"include": True, "battery": {"type": BATTERY, "attributes": attributes}}
    return definitions


def _charger(choices: Choices, random: np.random.Generator) -> dict[str, Any]:
    most, back = float(random.uniform(1.5, 11)), float(random.uniform(1, 8))
    discharges = choices.v2g and random.random() < 0.7
    weak = choices.min_power and random.random() < 0.7
    attributes: dict[str, Any] = {
        "efficiency": float(random.uniform(0.85, 1.0)),
        "max_charging_power": most,
        "min_charging_power": most * float(random.uniform(0.05, 0.4)) if weak else 0.0,
        "max_discharging_power": back if discharges else 0.0,
        "min_discharging_power": back * float(random.uniform(0.05, 0.4)) if weak and discharges else 0.0,
    }
    if choices.charger_curves and random.random() < 0.7:
        attributes["charge_efficiency_curve"] = _curve(random, 0.7, 1.0)
    if choices.charger_curves and random.random() < 0.7:
        attributes["discharge_efficiency_curve"] = _curve(random, 0.7, 1.0)
    return attributes


def _constraints(
    choices: Choices, names: list[str], rated: float, random: np.random.Generator
) -> dict[str, Any]:
    share = {"share": random.uniform(0.2, 0.9), "zero": 0.0, "ample": 2.0, "none": None}[choices.limit]
    limit = None if share is None else float(share * rated)
    phases = []
    for number in range(choices.phases):
        mine = [name for name in names if random.random() < 0.6]
        weight = random.choice([0.0, 0.15, 0.4, 2.0], p=[0.1, 0.3, 0.4, 0.2])
        phases.append(
            {"name": f"L{number + 1}", "limit_kw": float(weight * rated), "chargers": [*mine, "not_there"]}
        )
    if phases and random.random() < 0.2:
        phases[-1]["limit_kw"] = None
    shown = {"headroom": choices.headroom, "violation": choices.violation}
    return {
        "building_limit_kw": limit,
        "phases": phases,
        "observations": {key: value for key, value in shown.items() if value is not None}
        | ({"phase_encoding": True} if choices.phase_encoding else {}),
    }


def _observations(choices: Choices, random: np.random.Generator) -> dict[str, Any]:
    weather = [*WEATHER, *(f"{name}_predicted_{k}" for name in WEATHER for k in (1, 2, 3))]
    site = [
        "month", "day_type", "hour", *weather, "carbon_intensity", "non_shiftable_load", "solar_generation",
        "electrical_storage_soc", "net_electricity_consumption", "electricity_pricing",
        *(f"electricity_pricing_predicted_{k}" for k in (1, 2, 3)),
    ]  # fmt: skip
    names = [*site, *SOCKET_OBSERVATIONS, *INCOMING_OBSERVATIONS]
    active = {name for name in names if choices.all_observations or random.random() < 0.5} | {"hour"}
    return {
        name: {"active": name in active, "shared_in_central_agent": bool(random.random() < 0.5)}
        for name in names
    }


def _site_tables(choices: Choices, rows: int, random: np.random.Generator) -> dict[str, dict[str, Any]]:
    """The site's own series. The hour of ``first_row`` is ``first_hour``."""
    hour = (np.arange(rows) - choices.first_row + choices.first_hour) % 24
    day = (np.arange(rows) + choices.first_hour) // 24 % 7
    sun = np.maximum(0.0, np.sin(np.pi * (hour - 6) / 12)) * random.uniform(0.2, 1.1, rows)
    nothing = np.zeros(rows)
    building = {
        "month": np.full(rows, 1 + choices.first_hour % 12),
        "hour": hour + 1,
        "day_type": day + 1,
        "indoor_dry_bulb_temperature": np.full(rows, 25.0),
        "non_shiftable_load": random.gamma(2.0, 60.0 if choices.large else 3.0, rows),
        "dhw_demand": nothing,
        "cooling_demand": nothing,
        "heating_demand": nothing,
        "solar_generation": 1000.0 * sun,
    }
    weather = dict(
        zip(WEATHER, random.uniform((18, 30, 0, 0), (36, 100, 600, 900), (rows, 4)).T, strict=True)
    )
    price = {"electricity_pricing": random.choice([0.0, 0.12, 0.2, 0.35], rows)}
    carbon = {"carbon_intensity": random.uniform(0.1, 0.8, rows)}
    return {
        BUILDING: building,
        "weather": _with_predictions(weather, random),
        "pricing": _with_predictions(price, random),
        "carbon_intensity": carbon,
    }


def _with_predictions(series: dict[str, Any], random: np.random.Generator) -> dict[str, Any]:
    """Predictions that are not what comes, so that one cannot be taken for the other."""
    rows = len(next(iter(series.values())))
    predicted = {
        f"{n}_predicted_{k}": v * random.uniform(0.8, 1.2, rows) for n, v in series.items() for k in (1, 2, 3)
    }
    return {**series, **predicted}
