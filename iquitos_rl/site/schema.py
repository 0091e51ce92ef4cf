"""CityLearn's schema.json of a year, and the site's data read back through it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from iquitos_rl.config.site import BatteryConfig, SiteConfig
from iquitos_rl.site.errors import DatasetError
from iquitos_rl.site.sessions import Sessions, Socket
from iquitos_rl.site.storage import TableFormat, read_json, read_table
from iquitos_rl.site.sun import Sun
from iquitos_rl.site.tables import HORIZONS, WEATHER_SERIES, sessions_of_charger
from iquitos_rl.site.timeline import HOURS_PER_YEAR, Split
from iquitos_rl.site.year import SiteYear

__all__ = ["make_schema", "read_sockets", "read_year", "table_files", "year_from_tables"]

_FLAT = [[0.0, 1.0], [1.0, 1.0]]
"""A curve that limits nothing. CityLearn draws one at random where none is given."""

_VEHICLE_INITIAL_SOC = 0.3
"""SOC of a vehicle that an episode meets in the middle of a session; at arrivals the table's value holds."""

_TABLES = ("energy_simulation", "weather", "pricing", "carbon_intensity")


def make_schema(
    site: SiteConfig,
    sockets: tuple[Socket, ...],
    table_format: TableFormat,
    seed: int,
    split: Split,
    year: int,
) -> dict[str, Any]:
    """The schema as plain values.

    Paths are relative and ``root_directory`` is null, so that CityLearn looks beside the schema wherever the
    folder has been moved. Every attribute that CityLearn would draw at random is given. The key
    ``iquitos_rl`` is ours; CityLearn ignores it.
    """
    building: dict[str, Any] = {
        "include": True,
        "energy_simulation": f"building.{table_format}",
        "weather": f"weather.{table_format}",
        "carbon_intensity": f"carbon_intensity.{table_format}",
        "pricing": f"pricing.{table_format}",
        "charging_constraints": {
            "building_limit_kw": site.feeder_limit_kw,
            # What is left of the limit, and by how much requests exceed it, follow from the last action:
            # no news to a controller, so they are kept out of the observation.
            "observations": {"headroom": False, "violation": False},
        },
        "inactive_observations": [],
        "inactive_actions": [],
    }
    if site.pv:
        building["pv"] = {
            "type": "citylearn.energy_model.PV",
            "autosize": False,
            "attributes": {"nominal_power": site.pv.nominal_power_kwp},
        }
    if site.bess:
        building["electrical_storage"] = {
            "type": "citylearn.energy_model.Battery",
            "autosize": False,
            "attributes": _bess_attributes(site.bess),
        }
    building["chargers"] = {socket.name: _charger(socket, table_format) for socket in sockets}
    return {
        "root_directory": None,
        "random_seed": seed,
        "central_agent": True,
        "interface": "flat",
        "seconds_per_time_step": site.seconds_per_time_step,
        "simulation_start_time_step": 0,
        "simulation_end_time_step": HOURS_PER_YEAR - 1,
        "episode_time_steps": None,
        "rolling_episode_split": False,
        "random_episode_split": False,
        "observations": _observations(site),
        "actions": {
            **({"electrical_storage": {"active": True}} if site.bess else {}),
            "electric_vehicle_storage": {"active": True},
        },
        "reward_function": {"type": "citylearn.reward_function.RewardFunction", "attributes": {}},
        "buildings": {site.name: building},
        "electric_vehicles_def": {socket.vehicle: _vehicle(socket) for socket in sockets},
        "iquitos_rl": {
            "site": site.name,
            "split": split,
            "year": year,
            "seed": seed,
            "unserved_energy_kg_per_kwh": site.unserved_energy_kg_per_kwh,
        },
    }


def _observations(site: SiteConfig) -> dict[str, Any]:
    predicted = [f"predicted_{hours}" for hours in HORIZONS]
    active = [
        "month",
        "day_type",
        "hour",
        *(f"{kind}_solar_irradiance" for kind in ("diffuse", "direct")),
        *(f"{kind}_solar_irradiance_{n}" for kind in ("diffuse", "direct") for n in predicted),
        "carbon_intensity",
        "non_shiftable_load",
        *(["solar_generation"] if site.pv else []),
        *(["electrical_storage_soc"] if site.bess else []),
        "net_electricity_consumption",
        "electricity_pricing",
        *(f"electricity_pricing_{n}" for n in predicted),
        "electric_vehicle_charger_connected_state",
        "connected_electric_vehicle_at_charger_departure_time",
        "connected_electric_vehicle_at_charger_required_soc_departure",
        "connected_electric_vehicle_at_charger_soc",
        "connected_electric_vehicle_at_charger_battery_capacity",
    ]
    # Arrivals are not announced, so what CityLearn would tell of incoming vehicles stays off.
    inactive = [
        "electric_vehicle_charger_incoming_state",
        "incoming_electric_vehicle_at_charger_estimated_arrival_time",
        "incoming_electric_vehicle_at_charger_estimated_soc_arrival",
    ]
    return {
        **{name: {"active": True, "shared_in_central_agent": True} for name in active},
        **{name: {"active": False, "shared_in_central_agent": False} for name in inactive},
    }


def _bess_attributes(bess: BatteryConfig) -> dict[str, Any]:
    constant = [[0.0, bess.round_trip_efficiency], [1.0, bess.round_trip_efficiency]]
    curve = bess.power_efficiency_curve
    return {
        "capacity": bess.capacity_kwh,
        "nominal_power": bess.nominal_power_kw,
        "efficiency": bess.round_trip_efficiency,  # CityLearn applies its square root each way
        "power_efficiency_curve": [list(point) for point in curve] if curve else constant,
        "capacity_power_curve": [list(point) for point in bess.capacity_power_curve],
        "depth_of_discharge": bess.depth_of_discharge,
        "initial_soc": bess.initial_soc,
        "loss_coefficient": bess.standby_loss_per_hour,
        "capacity_loss_coefficient": bess.capacity_loss_coefficient,
    }


def _charger(socket: Socket, table_format: TableFormat) -> dict[str, Any]:
    return {
        "type": "citylearn.electric_vehicle_charger.Charger",
        "charger_simulation": f"chargers/{socket.name}.{table_format}",
        "attributes": {
            "efficiency": socket.efficiency,
            "max_charging_power": socket.power_kw,
            "min_charging_power": 0.0,
            "max_discharging_power": socket.discharge_power_kw,
            "min_discharging_power": 0.0,
        },
    }


def _vehicle(socket: Socket) -> dict[str, Any]:
    return {
        "include": True,
        "battery": {
            "type": "citylearn.energy_model.Battery",
            "attributes": {
                "capacity": socket.battery_capacity_kwh,
                "nominal_power": socket.battery_power_kw,
                "efficiency": 1.0,
                "power_efficiency_curve": _FLAT,
                "capacity_power_curve": _FLAT,
                "depth_of_discharge": 1.0,
                "initial_soc": _VEHICLE_INITIAL_SOC,
                "loss_coefficient": 0.0,
                "capacity_loss_coefficient": 0.0,
            },
        },
    }


def _building(schema: dict[str, Any]) -> dict[str, Any]:
    buildings = schema["buildings"]
    if len(buildings) != 1:
        raise ValueError(f"expected one building, found {len(buildings)}")
    building: dict[str, Any] = next(iter(buildings.values()))
    return building


def table_files(schema: dict[str, Any]) -> dict[str, str]:
    """Files a schema refers to: what each is (``weather``, ``moto_001`` ...) to its relative path.

    Raises KeyError, TypeError, AttributeError or ValueError if the schema is not like ours.
    """
    building = _building(schema)
    files = {name: str(building[name]) for name in _TABLES}
    chargers = building["chargers"].items()
    return files | {name: str(charger["charger_simulation"]) for name, charger in chargers}


def read_sockets(schema: dict[str, Any], tables: dict[str, pd.DataFrame]) -> tuple[Socket, ...]:
    """The sockets of a schema; each one's vehicle is the one its table names.

    Raises KeyError, TypeError, AttributeError or ValueError if the schema is not like ours.
    """
    definitions = schema["electric_vehicles_def"].items()
    vehicles = {name: entry["battery"]["attributes"] for name, entry in definitions}
    sockets = []
    for name, charger in _building(schema)["chargers"].items():
        ids = [i for i in tables[name]["electric_vehicle_id"].unique() if i] or [f"ev_{name}"]
        if len(ids) > 1:
            raise ValueError(f"socket {name} serves several vehicles: {', '.join(ids)}")
        if ids[0] not in vehicles:
            raise ValueError(f"socket {name} serves vehicle {ids[0]}, which electric_vehicles_def lacks")
        attributes, battery = charger["attributes"], vehicles[ids[0]]
        sockets.append(
            Socket(
                name=name,
                power_kw=float(attributes["max_charging_power"]),
                discharge_power_kw=float(attributes["max_discharging_power"]),
                efficiency=float(attributes["efficiency"]),
                battery_capacity_kwh=float(battery["capacity"]),
                battery_power_kw=float(battery["nominal_power"]),
            )
        )
    return tuple(sockets)


def read_year(directory: Path) -> SiteYear:
    """Read a year's schema and all its tables.

    Raises:
        DatasetError: a file is missing or damaged, or the schema is not like the ones this package writes.
    """
    schema = read_json(directory / "schema.json")
    try:
        files = table_files(schema)
        tables = {name: read_table(directory / file) for name, file in files.items()}
        return year_from_tables(schema, tables)
    except DatasetError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DatasetError(f"{directory}: not a year of a dataset ({reason})") from None


def year_from_tables(schema: dict[str, Any], tables: dict[str, pd.DataFrame]) -> SiteYear:
    """A year from its schema and tables, keyed as `table_files` does. Raises as `read_sockets`."""
    building = _building(schema)
    sockets = read_sockets(schema, tables)

    def column(table: str, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        return tables[table][name].to_numpy(dtype=np.float64)

    temperature, humidity, diffuse, direct = (column("weather", name) for name in WEATHER_SERIES)
    pv = building.get("pv")
    return SiteYear(
        sun=Sun(
            pv_w_per_kw=column("energy_simulation", "solar_generation"),
            direct_irradiance_w_per_m2=direct,
            diffuse_irradiance_w_per_m2=diffuse,
            temperature_c=temperature,
            humidity_percent=humidity,
        ),
        pv_nominal_power_kwp=float(pv["attributes"]["nominal_power"]) if pv else 0.0,
        load_kwh=column("energy_simulation", "non_shiftable_load"),
        price_usd_per_kwh=column("pricing", "electricity_pricing"),
        carbon_intensity_kg_per_kwh=column("carbon_intensity", "carbon_intensity"),
        feeder_limit_kw=float(building["charging_constraints"]["building_limit_kw"]),
        sockets=sockets,
        sessions=Sessions.join(
            [sessions_of_charger(tables[socket.name], index) for index, socket in enumerate(sockets)]
        ),
    )
