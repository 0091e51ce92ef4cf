"""What a trial reserves, and where Ray is started or joined."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from ray._private import ray_constants

from iquitos_rl.config.run import ResourceConfig
from iquitos_rl.training import cluster
from iquitos_rl.training.cluster import Connection, ResourceError, connect, learner_threads, trial_resources

SWITCH = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR


def connection(cpus: float, gpus: float = 0.0) -> Connection:
    return Connection(dashboard_url=None, cpus=cpus, gpus=gpus)


def bundles(resources: ResourceConfig, trials: int, at: Connection) -> list[dict[str, float]]:
    return list(trial_resources(resources, trials, at).bundles)


@pytest.mark.parametrize("cpus", [1, 2, 3, 64])
@pytest.mark.parametrize("runners", [0, 2])
@pytest.mark.parametrize("trials", [1, 2, 3])
def test_by_default_all_trials_fit_side_by_side(cpus: int, runners: int, trials: int):
    trial = bundles(ResourceConfig(env_runners=runners), trials, connection(cpus))
    assert len(trial) == 1 + runners
    shares = [bundle["CPU"] for bundle in trial]
    assert trials * sum(shares) <= cpus + 1e-9
    assert all(0 < share <= 1 for share in shares)
    # no CPU lies idle that a process could use
    assert shares[0] == 1 or trials * sum(shares) > 0.9 * cpus
    assert all(share * 10_000 == pytest.approx(round(share * 10_000)) for share in shares)  # Ray's precision


def test_with_more_cpus_than_processes_each_has_one():
    assert bundles(ResourceConfig(), 3, connection(64)) == [{"CPU": 1.0}]
    assert bundles(ResourceConfig(env_runners=3), 3, connection(64)) == [{"CPU": 1.0}] * 4


@pytest.mark.parametrize(
    ("cpus_per_trial", "runners", "threads"),
    [("auto", 0, 1), ("auto", 3, 1), (0.5, 0, 1), (2.0, 0, 2), (2.0, 1, 1), (8.0, 1, 4), (2.9, 0, 2)],
)
def test_a_learner_has_a_thread_for_each_cpu_that_it_has_reserved(
    cpus_per_trial: Any, runners: int, threads: int
):
    resources = ResourceConfig(cpus_per_trial=cpus_per_trial, env_runners=runners)
    assert learner_threads(trial_resources(resources, 1, connection(64))) == threads


def test_a_number_of_cpus_is_divided_among_the_processes_of_the_trial():
    trial = bundles(ResourceConfig(cpus_per_trial=2.0, env_runners=3), 1, connection(4))
    assert trial == [{"CPU": 0.5}] * 4


def test_a_fraction_of_a_gpu_is_logical_and_belongs_to_the_learner():
    resources = ResourceConfig(cpus_per_trial=1.0, gpus_per_trial=0.33, env_runners=1)
    trial = bundles(resources, 3, connection(3, gpus=1))
    assert trial == [{"CPU": 0.5, "GPU": 0.33}, {"CPU": 0.5}]


def test_without_gpus_none_is_asked_for():
    assert all("GPU" not in bundle for bundle in bundles(ResourceConfig(), 3, connection(2, gpus=1)))


@pytest.mark.parametrize(
    ("resources", "key", "numbers"),
    [
        (ResourceConfig(cpus_per_trial=3.0), "resources.cpus_per_trial", ("3", "2")),
        (ResourceConfig(gpus_per_trial=1.0), "resources.gpus_per_trial", ("1", "0")),
        (ResourceConfig(gpus_per_trial=0.33), "resources.gpus_per_trial", ("0.33", "0")),
        (ResourceConfig(env_runners=500), "resources.cpus_per_trial", ("5.01", "2")),
    ],
)
def test_what_the_cluster_does_not_have_is_refused_instead_of_waited_for(
    resources: ResourceConfig, key: str, numbers: tuple[str, str]
):
    with pytest.raises(ResourceError) as caught:
        trial_resources(resources, 1, connection(2))
    text = str(caught.value)
    assert text.startswith(key)
    assert f"needs {numbers[0]} " in text
    assert f"has {numbers[1]};" in text
    assert "\n" not in text


class FakeRay:
    """Records how Ray is started; fails where told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failures: int = 0) -> None:
        self.calls: list[dict[str, Any]] = []
        self.switches: list[str | None] = []
        self.shutdowns = 0
        self._failures = failures
        monkeypatch.setattr(ray, "is_initialized", lambda: False)
        monkeypatch.setattr(ray, "init", self._init)
        monkeypatch.setattr(ray, "shutdown", self._shutdown)
        monkeypatch.setattr(cluster, "_describe", lambda: connection(2))

    def _init(self, **options: Any) -> None:
        self.calls.append(options)
        self.switches.append(os.environ.get(SWITCH))
        if len(self.calls) <= self._failures:
            raise ConnectionError("nothing here\nand more lines")

    def _shutdown(self) -> None:
        self.shutdowns += 1


def test_local_is_a_ray_of_its_own_whatever_cluster_the_machine_belongs_to(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    fake = FakeRay(monkeypatch)
    with connect("local", num_cpus=2):
        pass
    (options,) = fake.calls
    assert options["address"] == "local"  # None would join the cluster of RAY_ADDRESS
    assert options["num_cpus"] == 2
    assert options["dashboard_host"] == "127.0.0.1"
    assert fake.shutdowns == 1


@pytest.mark.parametrize("before", [None, "1"])
def test_the_switch_to_loopback_holds_only_while_ray_starts(before: str | None, monkeypatch):
    if before is None:
        monkeypatch.delenv(SWITCH, raising=False)
    else:
        monkeypatch.setenv(SWITCH, before)
    constant = ray_constants.ENABLE_RAY_CLUSTER
    fake = FakeRay(monkeypatch)
    with connect("local"):
        assert os.environ.get(SWITCH) == before
        assert ray_constants.ENABLE_RAY_CLUSTER is constant
    assert fake.switches == ["0"]


def test_a_dashboard_that_cannot_start_does_not_keep_training_from_it(monkeypatch, caplog):
    fake = FakeRay(monkeypatch, failures=1)
    with connect("local", dashboard=True):
        pass
    assert [call["include_dashboard"] for call in fake.calls] == [True, False]
    assert "dashboard cannot start" in caplog.text


@pytest.fixture
def listening() -> Iterator[str]:
    """An address where something listens that is no Ray."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_an_address_without_a_cluster_is_refused_in_one_line(listening: str, monkeypatch):
    FakeRay(monkeypatch, failures=1)
    with pytest.raises(ResourceError) as caught, connect(listening):
        pass
    text = str(caught.value)
    assert f"--address {listening}" in text
    assert "nothing here" in text
    assert "\n" not in text


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1", "headnode", "", ":6379", "127.0.0.1:999999"]
)
def test_ray_is_not_asked_about_an_address_where_nothing_listens(address: str, monkeypatch):
    """It would try for five minutes, and then end the process."""
    fake = FakeRay(monkeypatch)
    with pytest.raises(ResourceError, match="--address") as caught, connect(address):
        pass
    assert "\n" not in str(caught.value)
    assert fake.calls == []


def test_an_address_where_something_listens_is_left_to_ray(listening: str, monkeypatch):
    fake = FakeRay(monkeypatch)
    with connect(listening):
        pass
    assert [call["address"] for call in fake.calls] == [listening]


def test_ray_ends_with_the_block_even_if_it_fails(monkeypatch):
    fake = FakeRay(monkeypatch)

    def fail() -> None:
        with connect("local", dashboard=False):
            raise RuntimeError("training failed")

    with pytest.raises(RuntimeError, match="training failed"):
        fail()
    assert fake.shutdowns == 1


def test_a_ray_that_runs_already_is_used_and_left_running(monkeypatch):
    fake = FakeRay(monkeypatch)
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    with connect("local"):
        pass
    assert fake.calls == []
    assert fake.shutdowns == 0
