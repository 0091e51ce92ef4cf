"""What the batch engine reads of a CityLearn schema, and what it refuses because it does not model it.

Everything that CityLearn 3.0.2 understands and that is not read here is refused by name: the engine equals
CityLearn or says that it cannot. The reader therefore knows the keys it may ignore, not those it must refuse.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from iquitos_rl.config.site import GASOLINE_KG_PER_KWH
from iquitos_rl.env.batch.schema_values import is_true, limit, plain_number, set_keys, shown

__all__ = [
    "BatteryParameters",
    "ChargerParameters",
    "Curve",
    "PhaseLimit",
    "SiteParameters",
    "UnsupportedSchemaError",
    "read_parameters",
]

Curve = tuple[tuple[float, float], ...]
"""Points (x, y) of a piecewise linear curve."""

SECONDS_PER_STEP = 3600
CHARGER_CLASSES = ("citylearn.electric_vehicle_charger.Charger",)
BATTERY_CLASSES = ("citylearn.energy_model.Battery",)
PV_CLASSES = ("citylearn.energy_model.PV",)
BUILDING_CLASSES = ("citylearn.citylearn.Building", "citylearn.building.Building")
VEHICLE_CLASSES = (
    "citylearn.citylearn.ElectricVehicle",
    "citylearn.electric_vehicle.ElectricVehicle",
)

# Keys that are read here, or that change nothing in what is simulated.
SITE_KEYS = {
    "root_directory", "random_seed", "central_agent", "interface", "seconds_per_time_step",
    "simulation_start_time_step", "simulation_end_time_step", "episode_time_steps", "rolling_episode_split",
    "random_episode_split", "observations", "actions", "reward_function", "buildings",
    "electric_vehicles_def", "iquitos_rl", "topology_mode", "description", "name",
}  # fmt: skip
BUILDING_KEYS = {
    "include", "type", "energy_simulation", "weather", "carbon_intensity", "pricing", "charging_constraints",
    "inactive_observations", "inactive_actions", "pv", "electrical_storage", "chargers", "equity_group",
}  # fmt: skip
DEVICE_KEYS = {"type", "attributes", "autosize"}
BATTERY_KEYS = {
    "capacity", "nominal_power", "efficiency", "power_efficiency_curve", "capacity_power_curve",
    "depth_of_discharge", "initial_soc", "loss_coefficient", "capacity_loss_coefficient", "random_seed",
    "phase_connection",
}  # fmt: skip
CHARGER_KEYS = {
    "efficiency", "max_charging_power", "min_charging_power", "max_discharging_power",
    "min_discharging_power", "charge_efficiency_curve", "discharge_efficiency_curve", "phase_connection",
}  # fmt: skip
CONSTRAINT_KEYS = {"building_limit_kw", "phases", "observations", "expose_observations"}
MODELLED_ACTIONS = ("electrical_storage", "electric_vehicle_storage")
UNSET_CHARGER_POWER_KW = 50.0
"""What CityLearn takes for a charger's largest power, either way, where the schema is silent."""


class UnsupportedSchemaError(ValueError):
    """A schema asks for something that the batch engine does not model.

    Attributes:
        features: what it is, one line each.
    """

    def __init__(self, schema: Path, features: Sequence[str]) -> None:
        self.features = tuple(features)
        super().__init__(
            f"{schema}: the batch engine does not model: {'; '.join(self.features)}. "
            "Use engine: citylearn, which does (and is some thousand times slower)"
        )


@dataclass(frozen=True)
class BatteryParameters:
    """A CityLearn ``Battery``, of a vehicle or of the site.

    Attributes:
        capacity_kwh: when new.
        nominal_power_kw: what the power curve and the efficiency curve are relative to.
        efficiency_curve: round-trip efficiency over power / nominal power.
        power_curve: largest power / nominal power over the state of charge.
        floor_soc: lowest state of charge, 1 - depth of discharge.
        initial_soc: at the start of an episode, not below the floor.
        loss_per_hour: share of the stored energy that is lost from one step to the next.
        capacity_loss: capacity lost per full cycle, as a share.
    """

    capacity_kwh: float
    nominal_power_kw: float
    efficiency_curve: Curve
    power_curve: Curve
    floor_soc: float
    initial_soc: float
    loss_per_hour: float
    capacity_loss: float


@dataclass(frozen=True)
class ChargerParameters:
    """A socket. Efficiency curves, over power / largest power, replace ``efficiency`` where there are any."""

    name: str
    table: Path
    max_charging_kw: float
    min_charging_kw: float
    max_discharging_kw: float
    min_discharging_kw: float
    efficiency: float
    charge_curve: Curve | None
    discharge_curve: Curve | None


@dataclass(frozen=True)
class PhaseLimit:
    """The most that some of the sockets may draw together; None for no limit."""

    name: str
    limit_kw: float | None
    sockets: tuple[str, ...]


@dataclass(frozen=True)
class SiteParameters:
    """One site as its schema describes it.

    Attributes:
        schema: the file.
        first_row, rows: which rows of the tables are the data.
        site_table, weather_table, pricing_table, carbon_table: files; None where CityLearn takes zeros.
        pv_kwp: nominal power of the PV array; 0 without one.
        pv_is_energy: the PV series is in kWh, not in W per kW of nominal power.
        bess: the site's battery, None without one.
        chargers: the sockets, in the order of the action.
        vehicles: their batteries, by name.
        limit_kw: of all sockets together; None without one.
        phases: limits of groups of sockets, applied one after the other.
        constrained: whether the schema has charging constraints at all (then they may be observed).
        observed_headroom, observed_violation, observed_phases: what of them CityLearn shows.
        observations: names of the active observations of the site, in order.
        socket_observations: those that CityLearn has for each socket.
        unserved_kg_per_kwh: CO2 of a kWh that a vehicle drives on gasoline, as the dataset builder noted it.
    """

    schema: Path
    first_row: int
    rows: int
    site_table: Path
    weather_table: Path
    pricing_table: Path | None
    carbon_table: Path | None
    pv_kwp: float
    pv_is_energy: bool
    bess: BatteryParameters | None
    chargers: tuple[ChargerParameters, ...]
    vehicles: Mapping[str, BatteryParameters]
    limit_kw: float | None
    phases: tuple[PhaseLimit, ...]
    constrained: bool
    observed_headroom: bool
    observed_violation: bool
    observed_phases: bool
    observations: tuple[str, ...]
    socket_observations: frozenset[str] = field(repr=False)
    unserved_kg_per_kwh: float = GASOLINE_KG_PER_KWH

    @property
    def socket_names(self) -> tuple[str, ...]:
        """Names of the sockets."""
        return tuple(charger.name for charger in self.chargers)


def read_parameters(schema: Path) -> SiteParameters:
    """Read a schema.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a CityLearn schema.
        UnsupportedSchemaError: it has features that the engine does not model.
    """
    try:
        description = json.loads(schema.read_text(encoding="utf-8"))
        return _Reader(schema, description).read()
    except UnsupportedSchemaError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{schema}: not a CityLearn schema of a charging site ({reason})") from None


class _Reader:
    """Reads one schema and collects what it cannot model, so that the error names all of it at once."""

    def __init__(self, schema: Path, description: dict[str, Any]) -> None:
        self.schema = schema
        self.description = description
        self.missing: list[str] = []

    def read(self) -> SiteParameters:
        top = self.description
        self._unknown("", top, SITE_KEYS)
        if float(top["seconds_per_time_step"]) != SECONDS_PER_STEP:
            self.missing.append(f"seconds_per_time_step {top['seconds_per_time_step']} (only 3600)")
        self._only("interface", top.get("interface") or "flat", ("flat",))
        self._only("topology_mode", top.get("topology_mode") or "static", ("static",))
        if not is_true(top.get("central_agent", True)):
            self.missing.append("central_agent false")
        included = {k: b for k, b in top["buildings"].items() if is_true(b.get("include", True))}
        if len(included) != 1:
            self.missing.append(f"{len(included)} buildings")
            raise UnsupportedSchemaError(self.schema, self.missing)
        ((name, building),) = included.items()
        parameters = self._building(f"buildings.{name}", building)
        if self.missing:
            raise UnsupportedSchemaError(self.schema, self.missing)
        return parameters

    def _building(self, path: str, building: dict[str, Any]) -> SiteParameters:
        top = self.description
        self._unknown(f"{path}.", building, BUILDING_KEYS)
        self._only(f"{path}.type", building.get("type") or BUILDING_CLASSES[0], BUILDING_CLASSES)
        root = Path(top.get("root_directory") or self.schema.parent)
        root = root if root.is_absolute() else self.schema.parent / root
        pv = building.get("pv")
        pv_attributes = self._device(f"{path}.pv", pv, PV_CLASSES, {"nominal_power", "generation_mode"})
        mode = str(pv_attributes.get("generation_mode") or "per_kw").strip().lower()
        bess = None
        if building.get("electrical_storage"):
            bess_path = f"{path}.electrical_storage"
            attributes = self._device(
                bess_path, building["electrical_storage"], BATTERY_CLASSES, BATTERY_KEYS
            )
            bess = self._battery(bess_path, attributes, vehicle=False)
        chargers = tuple(
            self._charger(f"{path}.chargers.{name}", name, charger, root)
            for name, charger in (building.get("chargers") or {}).items()
        )
        if not chargers:
            self.missing.append("a building without chargers")
        vehicles = {
            name: self._vehicle(f"electric_vehicles_def.{name}", entry)
            for name, entry in (top.get("electric_vehicles_def") or {}).items()
            if is_true(entry.get("include", True))
        }
        self._actions(building, has_bess=bess is not None)
        constraints = building.get("charging_constraints") or {}
        self._unknown(f"{path}.charging_constraints.", constraints, CONSTRAINT_KEYS)
        visible = constraints.get("observations") or {}
        # In CityLearn a null is off for "headroom" and on for "violation".
        exposed = constraints.get("expose_observations")
        headroom = visible.get("headroom", exposed is None or exposed)
        violation = visible.get("violation")
        for phase in constraints.get("phases") or ():
            if len(set(phase.get("chargers") or ())) < len(phase.get("chargers") or ()):
                self.missing.append(f"{path}.charging_constraints.phases: a socket twice in one phase")
        phases = tuple(
            PhaseLimit(
                name=phase.get("name") or f"phase_{number + 1}",
                limit_kw=limit(
                    f"{path}.charging_constraints.phases[{number}].limit_kw", phase.get("limit_kw")
                ),
                sockets=tuple(phase.get("chargers") or ()),
            )
            for number, phase in enumerate(constraints.get("phases") or ())
        )
        observations, socket_observations = self._observations(building)

        def table(key: str) -> Path | None:
            return root / building[key] if building.get(key) is not None else None

        first, last = int(top["simulation_start_time_step"]), int(top["simulation_end_time_step"])
        if last <= first:
            raise ValueError(f"simulation_end_time_step {last}: expected more than {first}, the start")
        return SiteParameters(
            schema=self.schema,
            first_row=first,
            rows=last - first + 1,
            site_table=root / building["energy_simulation"],
            weather_table=root / building["weather"],
            pricing_table=table("pricing"),
            carbon_table=table("carbon_intensity"),
            pv_kwp=plain_number(
                f"{path}.pv.attributes.nominal_power", pv_attributes.get("nominal_power") or 0
            ),
            pv_is_energy=mode not in ("per_kw", "w_per_kw", "profile"),
            bess=bess,
            chargers=chargers,
            vehicles=vehicles,
            limit_kw=limit(
                f"{path}.charging_constraints.building_limit_kw", constraints.get("building_limit_kw")
            ),
            phases=phases,
            constrained=bool(constraints),
            observed_headroom=bool(constraints) and is_true(headroom),
            observed_violation=bool(constraints) and (violation is None or is_true(violation)),
            observed_phases=bool(constraints) and is_true(visible.get("phase_encoding", False)),
            observations=observations,
            socket_observations=socket_observations,
            unserved_kg_per_kwh=plain_number(
                "iquitos_rl.unserved_energy_kg_per_kwh",
                (top.get("iquitos_rl") or {}).get("unserved_energy_kg_per_kwh", GASOLINE_KG_PER_KWH),
            ),
        )

    def _device(
        self, path: str, device: Mapping[str, Any] | None, classes: Sequence[str], known: set[str]
    ) -> dict[str, Any]:
        """A device's attributes; {} without one."""
        if not device:
            return {}
        self._unknown(f"{path}.", device, DEVICE_KEYS)
        self._only(f"{path}.type", device["type"], classes)
        if is_true(device.get("autosize", False)):
            self.missing.append(f"{path}.autosize")
        attributes = dict(device.get("attributes") or {})
        self._unknown(f"{path}.attributes.", attributes, known)
        return attributes

    def _battery(self, path: str, attributes: Mapping[str, Any], *, vehicle: bool) -> BatteryParameters:
        """A battery. What CityLearn would draw at random is not modelled."""

        def number(key: str, default: float | None) -> float:
            value = attributes.get(key)
            if value is None and default is not None:
                return default
            if isinstance(value, bool) or not isinstance(value, int | float):
                self.missing.append(f"{path}.{key} {shown(value)}: CityLearn draws it at random")
                return math.nan
            return float(value)

        def curve(key: str) -> Curve:
            points = attributes.get(key)
            if points is None:
                self.missing.append(f"{path}.{key} missing: CityLearn draws it at random")
                return ((0.0, 1.0), (1.0, 1.0))
            return self._curve(f"{path}.{key}", points)

        # A vehicle's standby loss defaults to none, any other battery's is drawn.
        loss = number("loss_coefficient", 0.0 if vehicle else None)
        floor = min(max(1.0 - number("depth_of_discharge", 1.0), 0.0), 1.0)
        # Without an initial SOC a vehicle's is drawn, the BESS begins at its floor.
        initial = number("initial_soc", None if vehicle else floor)
        efficiency = curve("power_efficiency_curve")
        if any(y <= 0 for _, y in efficiency):
            self.missing.append(f"{path}.power_efficiency_curve with an efficiency of 0 or less")
        return BatteryParameters(
            capacity_kwh=number("capacity", None if vehicle else 0.0),
            nominal_power_kw=number("nominal_power", None if vehicle else 0.0),
            efficiency_curve=efficiency,
            power_curve=curve("capacity_power_curve"),
            floor_soc=floor,
            initial_soc=max(initial, floor),
            loss_per_hour=loss,
            capacity_loss=number("capacity_loss_coefficient", None),
        )

    def _curve(self, path: str, points: Any) -> Curve:
        curve = tuple((float(x), float(y)) for x, y in points)
        if len(curve) < 2 or any(b[0] <= a[0] for a, b in pairwise(curve)):
            self.missing.append(f"{path} with fewer than two points, or not rising")
        return curve

    def _charger(self, path: str, name: str, charger: Mapping[str, Any], root: Path) -> ChargerParameters:
        self._unknown(f"{path}.", charger, DEVICE_KEYS | {"charger_simulation"})
        self._only(f"{path}.type", charger["type"], CHARGER_CLASSES)
        attributes = dict(charger.get("attributes") or {})
        self._unknown(f"{path}.attributes.", attributes, CHARGER_KEYS)

        def number(key: str, default: float) -> float:
            value = attributes.get(key)
            return default if value is None else plain_number(f"{path}.attributes.{key}", value)

        def curve(key: str) -> Curve | None:
            points = attributes.get(key)
            return None if points is None else self._curve(f"{path}.{key}", points)

        return ChargerParameters(
            name=name,
            table=root / charger["charger_simulation"],
            max_charging_kw=number("max_charging_power", UNSET_CHARGER_POWER_KW),
            min_charging_kw=number("min_charging_power", 0.0),
            max_discharging_kw=number("max_discharging_power", UNSET_CHARGER_POWER_KW),
            min_discharging_kw=number("min_discharging_power", 0.0),
            efficiency=number("efficiency", 1.0),
            charge_curve=curve("charge_efficiency_curve"),
            discharge_curve=curve("discharge_efficiency_curve"),
        )

    def _vehicle(self, path: str, entry: Mapping[str, Any]) -> BatteryParameters:
        self._unknown(f"{path}.", entry, {"include", "type", "battery"})
        self._only(f"{path}.type", entry.get("type") or VEHICLE_CLASSES[0], VEHICLE_CLASSES)
        battery = f"{path}.battery"
        attributes = self._device(
            battery, {"type": BATTERY_CLASSES[0]} | entry["battery"], BATTERY_CLASSES, BATTERY_KEYS
        )
        return self._battery(battery, attributes, vehicle=True)

    def _actions(self, building: Mapping[str, Any], *, has_bess: bool) -> None:
        inactive = set(building.get("inactive_actions") or ())
        active = [
            name
            for name, entry in self.description["actions"].items()
            if is_true(entry.get("active", False)) and name not in inactive
        ]
        self.missing += [f"action {name}" for name in active if name not in MODELLED_ACTIONS]
        if "electric_vehicle_storage" not in active:
            self.missing.append("chargers without their action electric_vehicle_storage")
        if has_bess != ("electrical_storage" in active):
            self.missing.append(
                "electrical_storage without its action" if has_bess else "action electrical_storage alone"
            )

    def _observations(self, building: Mapping[str, Any]) -> tuple[tuple[str, ...], frozenset[str]]:
        inactive = set(building.get("inactive_observations") or ())
        active = [
            name
            for name, entry in self.description["observations"].items()
            if is_true(entry.get("active", False)) and name not in inactive
        ]
        socket = frozenset(name for name in active if "electric_vehicle_" in name)
        return tuple(name for name in active if name not in socket), socket

    def _unknown(self, path: str, entry: Mapping[str, Any], known: set[str]) -> None:
        """Note the keys that are set and not known."""
        self.missing += [f"{path}{key}" for key in set_keys(entry) if key not in known]

    def _only(self, path: str, value: Any, allowed: Sequence[str]) -> None:
        if value not in allowed:
            self.missing.append(f"{path} {value} (only {', '.join(allowed)})")
