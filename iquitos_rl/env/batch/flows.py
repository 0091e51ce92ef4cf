"""The energy flows of an hour, for many environments: what the reference environment puts into ``info``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from iquitos_rl.env.batch.engine import BatchEngine

__all__ = ["hourly_flows"]


def hourly_flows(engine: BatchEngine) -> dict[str, NDArray[Any]]:
    """Flows (kWh, at the grid connection unless said otherwise) of the hour just simulated.

    Returns:
        Arrays of shape (environments,), with the keys of `EVChargingEnv`'s ``info``.

    Raises:
        ValueError: no hour has been simulated.
    """
    hour = engine.hour
    if hour is None:
        raise ValueError("no hour has been simulated yet")
    sockets = hour.sockets_kwh.astype(float)
    net = hour.net_kwh.astype(float)
    bess = hour.bess_kwh.astype(float)
    taken = np.maximum(hour.sockets_balance_kwh.astype(float), 0.0)
    return {
        "hour_of_year": hour.row,
        "grid_import_kwh": np.maximum(net, 0.0),
        "grid_export_kwh": np.maximum(-net, 0.0),
        "load_kwh": hour.load_kwh.astype(float),
        "pv_generation_kwh": hour.pv_kwh.astype(float),
        "ev_draw_kwh": np.maximum(sockets, 0.0).sum(axis=1),
        "ev_discharge_kwh": np.maximum(-sockets, 0.0).sum(axis=1),
        "ev_delivered_kwh": (taken * hour.sockets_root).sum(axis=1),
        "bess_charge_kwh": np.maximum(bess, 0.0),
        "bess_discharge_kwh": np.maximum(-bess, 0.0),
        "bess_stored_kwh": engine.bess_end_kwh.copy(),
        # Copies of what may be the engine's own arrays.
        "storage_losses_kwh": hour.storage_loss_kwh.copy(),
        "unserved_energy_kwh": hour.unserved_kwh.copy(),
        "satisfaction_shortfall": hour.shortfall.copy(),
        "ev_departures": hour.departures,
        "day_peak_kw": hour.day_peak_kw,
        "price_usd_per_kwh": hour.price.astype(float),
        "carbon_intensity_kg_per_kwh": hour.carbon_intensity.astype(float),
    }
