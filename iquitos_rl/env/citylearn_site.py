"""One CityLearn district with one building: its windows, its state and its energy flows, hour by hour."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from citylearn.citylearn import CityLearnEnv
from numpy.typing import NDArray

from iquitos_rl.env.observation import (
    LOOKAHEAD_HOURS,
    SiteScales,
    SiteState,
    SocketState,
)
from iquitos_rl.env.reward import MultiObjectiveReward
from iquitos_rl.env.situation import BessPlant, Plant

__all__ = ["CityLearnSite"]

FloatArray = NDArray[np.float64]

BESS_ACTION = "electrical_storage"
SOCKET_ACTION_PREFIX = "electric_vehicle_storage_"
CONNECTED = 1
"""CityLearn's charger state of a vehicle that is plugged in."""


class CityLearnSite:
    """A ``CityLearnEnv`` of one building, stepped through windows of its data.

    A window is loaded with `LOOKAHEAD_HOURS` more rows than are stepped, for two reasons: CityLearn does not
    advance its buildings on a window's last transition, so the observation after it would show the hour
    before; and the features look some hours ahead.

    Args:
        schema: path of a CityLearn schema with one building.
        reward_options: arguments of the site's `MultiObjectiveReward`.
        raw: whether CityLearn's own observation vector is wanted. Without it the observations that CityLearn
            would assemble in every step, and whose bounds take most of its construction, are switched off.

    Raises:
        FileNotFoundError: there is no such schema.
        ValueError: more than one building, or actions other than a BESS and charger sockets.
    """

    def __init__(self, schema: Path, reward_options: Mapping[str, Any], *, raw: bool) -> None:
        self.schema = schema
        description = json.loads(schema.read_text(encoding="utf-8"))
        first = int(description["simulation_start_time_step"])
        self.rows = int(description["simulation_end_time_step"]) - first + 1
        self._first_row = first
        self.env = CityLearnEnv(
            str(schema),
            central_agent=True,
            reward_function=MultiObjectiveReward,
            reward_function_kwargs=reward_options,
            episode_time_steps=self.rows,
            active_observations=None if raw else ["hour"],
            random_seed=int(description.get("random_seed") or 0),
            offline=True,
        )
        if len(self.env.buildings) != 1:
            raise ValueError(f"{schema}: expected one building, found {len(self.env.buildings)}")
        (self.building,) = self.env.buildings
        self.reward: MultiObjectiveReward = self.env.reward_function
        self.reward.bind(self.env)
        self._read_actions(schema)
        self._vehicles = {vehicle.name: vehicle for vehicle in self.env.electric_vehicles}
        self._vehicle_kwh = {name: float(v.battery.capacity) for name, v in self._vehicles.items()}
        self.scales = self._read_scales()
        self.plant = self._read_plant()
        self.t = 0

    def _read_actions(self, schema: Path) -> None:
        (names,) = self.env.action_names
        self.has_bess = names[0] == BESS_ACTION
        sockets = names[1:] if self.has_bess else names
        strange = [name for name in sockets if not name.startswith(SOCKET_ACTION_PREFIX)]
        if strange:
            raise ValueError(f"{schema}: actions other than a BESS and sockets: {', '.join(strange)}")
        by_id = {charger.charger_id: charger for charger in self.building.electric_vehicle_chargers}
        self.socket_names = tuple(name.removeprefix(SOCKET_ACTION_PREFIX) for name in sockets)
        self.chargers = [by_id[name] for name in self.socket_names]
        self.v2g = np.array([charger.max_discharging_power > 0 for charger in self.chargers], bool)

    def _read_scales(self) -> SiteScales:
        building = self.building
        limit = building._building_charger_limit_kw  # CityLearn offers no public name for it
        pricing, carbon = building.pricing, building.carbon_intensity
        return SiteScales(
            pv_kwp=float(building.pv.nominal_power),  # CityLearn puts 0 kW where a site has none
            mean_load_kwh=float(np.mean(building.energy_simulation.non_shiftable_load)),
            highest_price_usd_per_kwh=float(np.max(pricing.electricity_pricing)),
            highest_carbon_intensity_kg_per_kwh=float(np.max(carbon.carbon_intensity)),
            feeder_limit_kw=float("inf") if limit is None else float(limit),
            rated_power_kw=np.array([c.max_charging_power for c in self.chargers], float),
            charger_efficiency=np.array([c.get_efficiency(1.0, True) for c in self.chargers], float),
            largest_battery_kwh=max(self._vehicle_kwh.values()),
        )

    def _read_plant(self) -> Plant:
        bess = None
        if self.has_bess:
            storage = self.building.electrical_storage
            bess = BessPlant(
                capacity_kwh=float(storage.capacity),
                nominal_kw=float(storage.nominal_power),
                floor_soc=1.0 - float(storage.depth_of_discharge),
                one_way_efficiency=float(np.interp(1.0, *storage.power_efficiency_curve)) ** 0.5,
            )
        return Plant(
            socket_names=self.socket_names,
            rated_kw=self.scales.rated_power_kw,
            charger_efficiency=self.scales.charger_efficiency,
            may_discharge=self.v2g,
            feeder_limit_kw=self.scales.feeder_limit_kw,
            bess=bess,
        )

    def reset(self, start: int, steps: int, seed: int | None = None) -> None:
        """Load the window of ``steps`` steps from row ``start`` on."""
        last = min(start + steps + LOOKAHEAD_HOURS, self.rows - 1)
        self.env.episode_time_steps = [(self._first_row + start, self._first_row + last)]
        # CityLearn would begin an episode with the violation of the feeder's limit that ended the one before.
        self.building._charging_constraint_last_penalty_kwh = 0.0
        self.env.reset(seed=seed)
        self.start = start
        self.t = 0
        self._read_window()

    def _read_window(self) -> None:
        """Tables of the window; CityLearn cuts them out of the year anew at each access."""
        building = self.building
        simulation = building.energy_simulation
        self._hour = np.asarray(simulation.hour) - 1  # CityLearn counts 1-24
        self._day_type = np.asarray(simulation.day_type) - 1
        self._load = np.asarray(simulation.non_shiftable_load, float)
        # Not building.solar_generation, which CityLearn shows only up to the present hour.
        self._pv = np.asarray(building.pv.get_generation(simulation.solar_generation), float)
        self._price = np.asarray(building.pricing.electricity_pricing, float)
        self._carbon = np.asarray(building.carbon_intensity.carbon_intensity, float)
        simulations = [charger.charger_simulation for charger in self.chargers]
        state = np.stack([s.electric_vehicle_charger_state for s in simulations], axis=1)
        self._occupied = state == CONNECTED
        self._vehicle = np.stack([s.electric_vehicle_id for s in simulations], axis=1)
        self._occupied &= np.isin(self._vehicle.astype(str), list(self._vehicles))
        self._required = np.stack([s.electric_vehicle_required_soc_departure for s in simulations], axis=1)
        self._hours_left = np.stack([s.electric_vehicle_departure_time for s in simulations], axis=1)

    def _ahead(self, series: FloatArray) -> FloatArray:
        """This hour's value and the next ones; the last of the data is repeated beyond its end."""
        rows = np.minimum(np.arange(self.t, self.t + 1 + LOOKAHEAD_HOURS), len(series) - 1)
        return series[rows]

    def _soc_row(self) -> int:
        """Row of the batteries' present state: on the data's last transition CityLearn stays behind."""
        return min(self.t, int(self.building.time_step))

    def socket_state(self) -> SocketState:
        """The sockets at the start of the present hour."""
        t, row = self.t, self._soc_row()
        occupied = self._occupied[t]
        soc = np.zeros(len(self.chargers))
        capacity = np.zeros(len(self.chargers))
        for socket in np.flatnonzero(occupied):
            name = self._vehicle[t, socket]
            soc[socket] = self._vehicles[name].battery.soc[row]
            capacity[socket] = self._vehicle_kwh[name]
        return SocketState(
            occupied=occupied,
            soc=soc,
            required_soc=np.maximum(self._required[t], 0.0),  # -0.1 stands for none
            capacity_kwh=capacity,
            hours_to_departure=np.maximum(self._hours_left[t], 0.0),
        )

    def site_state(self) -> SiteState:
        """The site at the start of the present hour."""
        t = self.t
        last = self.reward.last
        new_day = self._hour[t] == 0
        bess_soc = self.building.electrical_storage.soc[self._soc_row()] if self.has_bess else 0.0
        previous_net = self.building.net_electricity_consumption[t - 1] if t else 0.0
        return SiteState(
            hour_of_year=np.asarray(self.start + t, float),
            hour=np.asarray(self._hour[t], float),
            day_type=np.asarray(self._day_type[t], float),
            pv_kwh=self._ahead(self._pv),
            load_kwh=self._load[t],
            price_usd_per_kwh=self._ahead(self._price),
            carbon_intensity_kg_per_kwh=self._carbon[t],
            bess_soc=np.asarray(bess_soc, float),
            previous_net_kwh=np.asarray(previous_net, float),
            day_peak_kw=np.asarray(0.0 if last is None or new_day else last.day_peak_kw),
        )

    @property
    def raw_observation(self) -> NDArray[np.float32]:
        """CityLearn's own flat vector for the present hour."""
        (values,) = self.env.observations
        return np.asarray(values, np.float32)

    @property
    def raw_names(self) -> list[str]:
        """Names of `raw_observation`."""
        return list(self.env.observation_names[0])

    def step(self, action: FloatArray) -> float:
        """Simulate the present hour; returns its reward."""
        _, reward, _, _, _ = self.env.step([action.tolist()])
        self.t += 1
        return float(reward[0])

    @property
    def pv_generation_kwh(self) -> float:
        """PV generation of the hour just simulated."""
        return float(self._pv[self.t - 1])

    def bess_stored_kwh(self, row: int) -> float:
        """Energy in the BESS at the end of an hour of the window, or at its start for row 0 before a step."""
        if not self.has_bess:
            return 0.0
        storage = self.building.electrical_storage
        return float(storage.soc[row]) * float(storage.capacity)

    def flows(self) -> dict[str, Any]:
        """Energy flows (kWh, at the grid connection unless said otherwise) of the hour just simulated."""
        t = self.t - 1
        outcome = self.reward.last
        assert outcome is not None
        net = float(self.building.net_electricity_consumption[t])
        sockets_kwh = np.array([charger.electricity_consumption[t] for charger in self.chargers], float)
        delivered = self._delivered_kwh(t)
        bess_kwh = (
            float(self.building.electrical_storage.electricity_consumption[t]) if self.has_bess else 0.0
        )
        pv = self.pv_generation_kwh
        return {
            "hour_of_year": self.start + t,
            "grid_import_kwh": max(0.0, net),
            "grid_export_kwh": max(0.0, -net),
            "load_kwh": float(self.building.non_shiftable_load_electricity_consumption[t]),
            "pv_generation_kwh": pv,
            "ev_draw_kwh": float(np.maximum(sockets_kwh, 0.0).sum()),
            "ev_discharge_kwh": float(np.maximum(-sockets_kwh, 0.0).sum()),
            "ev_delivered_kwh": delivered,
            "bess_charge_kwh": max(0.0, bess_kwh),
            "bess_discharge_kwh": max(0.0, -bess_kwh),
            "bess_stored_kwh": self.bess_stored_kwh(t),
            "storage_losses_kwh": outcome.storage_loss_kwh,
            "unserved_energy_kwh": outcome.unserved_kwh,
            "satisfaction_shortfall": outcome.shortfall,
            "ev_departures": outcome.departures,
            "day_peak_kw": outcome.day_peak_kw,
            "price_usd_per_kwh": float(self._price[t]),
            "carbon_intensity_kg_per_kwh": float(self._carbon[t]),
        }

    def end_soc(self) -> FloatArray:
        """States of charge at the end of the hour just simulated, 0 without a vehicle; shape (sockets,)."""
        t = self.t - 1
        soc = np.zeros(len(self.chargers))
        for socket in np.flatnonzero(self._occupied[t]):
            soc[socket] = self._vehicles[self._vehicle[t, socket]].battery.soc[t]
        return soc

    def _delivered_kwh(self, t: int) -> float:
        """Energy that vehicle batteries took in."""
        total = 0.0
        for socket in np.flatnonzero(self._occupied[t]):
            battery = self._vehicles[self._vehicle[t, socket]].battery
            # CityLearn's `round_trip_efficiency` is the square root of the efficiency: one way.
            total += max(0.0, float(battery.energy_balance[t])) * float(battery.round_trip_efficiency)
        return total
