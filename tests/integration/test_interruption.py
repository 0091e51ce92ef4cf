"""The real command, interrupted and killed, and what it listens on. Each test is a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from iquitos_rl.cli import main
from tests.training.small_run import RLLIB_WARNING, ROOT, write_run

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.filterwarnings(RLLIB_WARNING),
    pytest.mark.skipif(sys.platform != "linux", reason="signals and /proc as on Linux"),
]

TIMEOUT = 150.0
LISTEN = "0A"
"""TCP state in /proc/net/tcp."""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts Python in tmp_path; whatever is still running at the end of the test is killed."""
    processes: list[subprocess.Popen[str]] = []

    def popen(*arguments: str) -> subprocess.Popen[str]:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        environment.pop("RAY_ADDRESS", None)
        with (tmp_path / "stderr.txt").open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=tmp_path,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=stderr,
                stdin=subprocess.DEVNULL,
                text=True,
            )
        processes.append(process)
        return process

    yield popen
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def wait_until(
    what: str, condition: Callable[[], bool], process: subprocess.Popen[str], folder: Path
) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        said = (folder / "stderr.txt").read_text()
        assert process.poll() is None, f"ended with {process.returncode} before {what}:\n{said}"
        assert time.monotonic() < deadline, f"no {what} in {TIMEOUT:g} s:\n{said}"
        time.sleep(0.1)


def train_arguments(folder: Path, algorithms: str) -> list[str]:
    return ["train", "--run", str(folder / "run.yaml"), "--no-dashboard", "--algo", algorithms]


def whole_checkpoints(folder: Path, algorithm: str) -> list[Path]:
    return sorted(path.parent for path in folder.glob(f"runs/small/{algorithm}_*/*/checkpoint.json"))


def last_result(folder: Path, algorithm: str) -> dict[str, Any]:
    (file,) = folder.glob(f"runs/small/{algorithm}_*/result.json")
    return dict(json.loads(file.read_text().splitlines()[-1]))


def resume(folder: Path, algorithms: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Goes on in this process, on the Ray of the test session; returns the summary."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        main([*train_arguments(folder, algorithms), "--resume", "--json"])
    captured = capsys.readouterr()
    assert exit_.value.code in (None, 0), captured.err
    return dict(json.loads(captured.out))


def test_ctrl_c_saves_every_agent_and_resume_finishes_each_to_its_budget(
    start: Start, tmp_path: Path, small_ray: None, capsys: pytest.CaptureFixture[str]
):
    # enough steps for the signal to come in the middle; the checkpoint interval is never reached
    write_run(tmp_path, stop={"env_steps": 9600}, checkpoint={"every_env_steps": 20000, "keep": 2})
    process = start("-m", "iquitos_rl.cli", *train_arguments(tmp_path, "a2c,ppo"))

    def first_progress() -> bool:
        return any(file.stat().st_size > 0 for file in tmp_path.glob("runs/small/*/result.json"))

    wait_until("result", first_progress, process, tmp_path)
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=TIMEOUT)
    said = (tmp_path / "stderr.txt").read_text()
    assert process.returncode == 1, said
    assert stdout == ""
    assert "Stopping: every agent finishes its iteration and saves a checkpoint" in said
    assert f"Go on with: iquitos-rl restore {tmp_path}/runs/small" in said
    assert "Traceback" not in said
    assert not list(tmp_path.glob("outputs/small/result_*"))  # nothing is evaluated half trained

    files = [next(tmp_path.glob(f"runs/small/{name}_*/result.json"), None) for name in ("a2c", "ppo")]
    started = [file.parent.name[:3] for file in files if file is not None and file.stat().st_size > 0]
    assert started
    steps = {}
    for name in started:
        (newest,) = whole_checkpoints(tmp_path, name)
        steps[name] = json.loads((newest / "checkpoint.json").read_text())["env_steps"]
        # on a busy machine one agent may be done before the other has begun
        assert 0 < steps[name] == last_result(tmp_path, name)["env_steps"] <= 9600
    assert min(steps.values()) < 9600 or len(started) < 2

    summary = resume(tmp_path, "a2c,ppo", capsys)
    for agent in summary["agents"]:
        assert (agent["status"], agent["env_steps"]) == ("finished", 9600)
    for name in ("a2c", "ppo"):
        (file,) = tmp_path.glob(f"runs/small/{name}_*/result.json")
        counted = [json.loads(line)["env_steps"] for line in file.read_text().splitlines()]
        assert counted == list(range(24, 9601, 24)), "every iteration once: none lost, none repeated"


def test_a_killed_driver_goes_on_from_the_last_checkpoint(
    start: Start, tmp_path: Path, small_ray: None, capsys: pytest.CaptureFixture[str]
):
    write_run(tmp_path, stop={"env_steps": 960}, checkpoint={"every_env_steps": 48, "keep": 2})
    process = start("-m", "iquitos_rl.cli", *train_arguments(tmp_path, "a2c"))
    wait_until("checkpoint", lambda: bool(whole_checkpoints(tmp_path, "a2c")), process, tmp_path)
    family = process_tree(process.pid)
    process.kill()  # the driver alone: nobody tells the others
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "outputs").exists()

    (agent,) = resume(tmp_path, "a2c", capsys)["agents"]
    assert (agent["status"], agent["env_steps"]) == ("finished", 960)
    assert last_result(tmp_path, "a2c")["env_steps"] == 960
    assert (tmp_path / "outputs/small/result_a2c.json").is_file()
    # Ray's two agents outlive a killed raylet by up to a minute; what trains or schedules must not
    deadline = time.monotonic() + 30
    while left := [pid for pid in family if is_alive(pid) and not name_of(pid).endswith("Agent")]:
        assert time.monotonic() < deadline, f"still there: {[name_of(pid) for pid in left]}"
        time.sleep(0.5)


def name_of(pid: int) -> str:
    """What ``ps`` calls a process, such as ray::DashboardAgent; nothing if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().strip("\0 ")
    except OSError:
        return ""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def process_tree(root: int) -> set[int]:
    """The process, and all that descend from it."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue  # ended meanwhile
    tree = {root}
    while more := {child for child, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return tree


def listening_addresses(pids: set[int]) -> set[str]:
    """Local addresses (hexadecimal, as in /proc/net/tcp) on which the processes listen."""
    inodes = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = os.readlink(descriptor)
            except OSError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[len("socket:[") : -1])
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN and fields[9] in inodes:
                found.add(fields[1].split(":")[0])
    return found


LOOPBACK = {
    "0100007F",  # 127.0.0.1
    "00000000000000000000000001000000",  # ::1
    "0000000000000000FFFF00000100007F",  # ::ffff:127.0.0.1
}

HOLD_A_LOCAL_RAY = """
import ray
from iquitos_rl.training.cluster import connect

@ray.remote
class Worker:
    def ready(self):
        return True

with connect("local", dashboard=True, num_cpus=2) as connection:
    workers = [Worker.remote() for _ in range(2)]
    ray.get([worker.ready.remote() for worker in workers])
    print(connection.dashboard_url, flush=True)
    input()
"""


def test_a_local_ray_listens_on_loopback_only(start: Start, tmp_path: Path):
    process = start("-c", f"import sys, os; sys.stdin = os.fdopen(os.pipe()[0])\n{HOLD_A_LOCAL_RAY}")
    assert process.stdout is not None
    dashboard = process.stdout.readline().strip()
    assert dashboard.startswith("http://127.0.0.1:"), (tmp_path / "stderr.txt").read_text()
    tree = process_tree(process.pid)
    assert len(tree) > 5  # GCS, raylet, agents, dashboard, workers
    addresses = listening_addresses(tree)
    assert addresses, "nothing found: the test looks at the wrong place"
    assert addresses <= LOOPBACK
