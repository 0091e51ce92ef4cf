"""Connecting to Ray: a local one that stays on this machine, or a cluster that is there."""

from __future__ import annotations

import logging
import math
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray._private import ray_constants
from ray.tune import PlacementGroupFactory

from iquitos_rl.config.run import ResourceConfig

__all__ = ["Connection", "ResourceError", "connect", "learner_threads", "trial_resources"]

LOGGER = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
ANSWER_SECONDS = 10.0
"""How long a cluster may take to accept a connection."""


class ResourceError(ValueError):
    """Resources that the cluster does not have, or an address where there is none."""


@dataclass(frozen=True)
class Connection:
    """A connection to Ray.

    Attributes:
        dashboard_url: of the dashboard, None if there is none.
        cpus: of the whole cluster.
        gpus: of the whole cluster.
    """

    dashboard_url: str | None
    cpus: float
    gpus: float


@contextmanager
def connect(
    address: str = "local", *, dashboard: bool = True, num_cpus: int | None = None
) -> Iterator[Connection]:
    """Start a local Ray, or join one; a local one ends with the block.

    Args:
        address: ``local`` starts Ray on this machine, bound to loopback; ``auto`` joins the cluster this
            machine belongs to; ``HOST:PORT`` joins that one.
        dashboard: whether a local Ray should have a dashboard. If it cannot start, Ray runs without.
        num_cpus: of a local Ray; all of the machine's if None.

    Raises:
        ResourceError: there is no cluster at the address.
    """
    # No telemetry; and Ray warns, in every run without a GPU, of a default of its own that will change.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    _check_address(address)
    if ray.is_initialized():  # a program that uses this library already has its Ray
        yield _describe()
        return
    if address == "local":
        _start_local(dashboard, num_cpus)
    else:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _no_cluster(address, str(error).strip().splitlines()[0]) from None
    try:
        yield _describe()
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Refuse an address where nothing listens: Ray would try for five minutes and then end the process.

    Raises:
        ResourceError: nothing answers at a HOST:PORT; ``local`` and ``auto`` are not looked at.
    """
    if address in ("local", "auto"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        raise ResourceError(f"--address {address}: expected local, auto or HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, str(error)) from None


def _no_cluster(address: str, reason: str) -> ResourceError:
    return ResourceError(
        f"--address {address}: no Ray cluster answers there ({reason}); start one with "
        "`ray start --head`, or leave out --address for a local Ray"
    )


def _start_local(dashboard: bool, num_cpus: int | None) -> None:
    options: dict[str, Any] = {
        "address": "local",  # without it Ray joins a cluster of RAY_ADDRESS or of an earlier `ray start`
        "num_cpus": num_cpus,
        "dashboard_host": LOOPBACK,
        "log_to_driver": False,
        "logging_level": logging.CRITICAL,
    }
    with _loopback_only():
        if dashboard:
            try:
                ray.init(include_dashboard=True, **options)
                return
            except Exception as error:  # what keeps a dashboard from starting must not keep training from it
                reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
                LOGGER.warning("the Ray dashboard cannot start (%s); training without it", reason[0])
                ray.shutdown()
        ray.init(include_dashboard=False, **options)


@contextmanager
def _loopback_only() -> Iterator[None]:
    """Let a Ray that is started within listen on loopback only.

    On Linux Ray binds its servers to all interfaces, or to the machine's outer address even where
    ``_node_ip_address`` says 127.0.0.1. The switch that makes it use loopback, as it does on macOS and
    Windows, is read from the environment by the processes it starts, and was read by this one when Ray was
    imported.
    """
    name = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    before, constant = os.environ.get(name), ray_constants.ENABLE_RAY_CLUSTER
    os.environ[name] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = constant
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _describe() -> Connection:
    resources = ray.cluster_resources()
    url = ray._private.worker.get_dashboard_url()
    return Connection(
        dashboard_url=f"http://{url}" if url else None,
        cpus=float(resources.get("CPU", 0.0)),
        gpus=float(resources.get("GPU", 0.0)),
    )


def trial_resources(resources: ResourceConfig, trials: int, connection: Connection) -> PlacementGroupFactory:
    """What one trial reserves: the trial itself (it samples and learns), then one bundle per remote sampler.

    ``cpus_per_trial: auto`` gives each process the share of a CPU with which all trials fit side by side, at
    most one. A number of CPUs is divided evenly; where that is more than one, see `learner_threads`.

    Raises:
        ResourceError: the cluster can never place such a trial, which Tune would leave pending for ever.
    """
    processes = 1 + resources.env_runners
    if resources.cpus_per_trial == "auto":
        # Rounded down to Ray's own precision, or the last trial would not fit.
        share = min(1.0, math.floor(connection.cpus / (trials * processes) * 100) / 100)
        share = max(share, 0.01)
    else:
        share = float(resources.cpus_per_trial) / processes
    if share * processes > connection.cpus:
        raise ResourceError(
            f"resources.cpus_per_trial: a trial needs {share * processes:g} CPUs, the cluster has "
            f"{connection.cpus:g}; lower it, or resources.env_runners"
        )
    gpus = resources.gpus_per_trial
    if gpus > connection.gpus:
        raise ResourceError(
            f"resources.gpus_per_trial: a trial needs {gpus:g} GPUs, the cluster has {connection.gpus:g}; "
            "set it to 0 to train on the CPU"
        )
    first = {"CPU": share} | ({"GPU": gpus} if gpus else {})
    return PlacementGroupFactory([first] + [{"CPU": share}] * resources.env_runners)


def learner_threads(reserved: PlacementGroupFactory) -> int:
    """Threads of the process that learns: the whole CPUs it has reserved, one if it has less.

    More than are reserved fight with the other trials: two torch processes with two threads each on two
    cores ran 20 times slower. Nor has a trial that is alone more by default: a second thread made SAC's
    update 1.3 times as fast, and PPO with minibatches of 64 samples 1.5 times as slow (docs/benchmarks.md).
    The number is the plan's and does not grow when other trials end, because sums over another number of
    threads round differently: the same seed would no longer give the same agent.
    """
    return max(1, int(reserved.bundles[0]["CPU"]))
