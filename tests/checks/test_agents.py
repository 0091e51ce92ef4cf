"""The algorithms and their checkpoints: real training steps on the small site, and what breaks them."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from iquitos_rl.checks import Outcome
from iquitos_rl.checks.agents import Agents, smallest_run
from iquitos_rl.config import RunConfig, load_run
from iquitos_rl.config.run import RunConfig as Model
from iquitos_rl.site import Dataset
from iquitos_rl.training.trainable import SiteTrainable
from tests.checks.conftest import made

pytestmark = pytest.mark.integration

ALGORITHMS = ("a2c", "sac", "ppo")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def agents(small_ray: None, small_dataset: Dataset, run_file: Path) -> Iterator[Callable[..., Agents]]:
    """Makes the agents of the run, with overrides; stopped at the end of the test."""
    opened: list[Agents] = []

    def make(*overrides: str) -> Agents:
        opened.append(Agents(load_run(run_file, overrides), small_dataset))
        return opened[-1]

    yield make
    for one in opened:
        one.__exit__()


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_algorithm_trains_a_step_and_comes_back_from_its_checkpoint(
    name: str, agents: Callable[..., Agents], capfd: pytest.CaptureFixture[str]
):
    some = agents()
    trained = made(lambda: some.train(name))
    assert trained.outcome is Outcome.passed, trained.detail
    assert "steps" in trained.detail
    assert "update" in trained.detail
    restored = made(lambda: some.round_trip(name))
    assert restored.outcome is Outcome.passed, restored.detail
    assert "16 actions equal" in restored.detail
    assert "API stack" not in "".join(capfd.readouterr())  # RLlib's notes would bury the progress


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize(
    ("rate", "reason"),
    [
        ("1e-60", "no weight was changed"),
        ("1e20", "the training step"),
        ("1e38", "the training step fails"),
    ],
)
def test_a_learning_rate_at_which_nothing_is_learned_fails(
    name: str, rate: str, reason: str, agents: Callable[..., Agents]
):
    some = agents(f"algorithms.{name}.learning_rate={rate}")
    result = made(lambda: some.train(name))
    assert result.outcome is Outcome.failed
    assert reason in result.detail
    assert "learning rate" in result.remedy
    after = made(lambda: some.round_trip(name))
    assert after.outcome is Outcome.skipped
    assert "has not trained" in after.detail


@pytest.mark.parametrize(
    ("name", "override", "reason"),
    [
        ("a2c", "resources.envs_per_runner=5", "algorithms.a2c: n_steps = 24: must be a multiple"),
        ("ppo", "resources.envs_per_runner=5", "algorithms.ppo: n_steps = 24: must be a multiple"),
        ("sac", "resources.envs_per_runner=1000000", "algorithms.sac: buffer_size = "),
        ("a2c", "resources.cpus_per_trial=512", "resources.cpus_per_trial: a trial needs 512 CPUs"),
        ("ppo", "resources.gpus_per_trial=64", "resources.gpus_per_trial: a trial needs 64 GPUs"),
    ],
)
def test_what_the_run_could_not_start_with_fails(
    name: str, override: str, reason: str, agents: Callable[..., Agents]
):
    result = made(lambda: agents(override).train(name))
    assert result.outcome is Outcome.failed
    assert reason in result.detail


@pytest.mark.parametrize("name", ALGORITHMS)
def test_data_that_training_cannot_read_fails(
    name: str, agents: Callable[..., Agents], run: RunConfig, copied_dataset: Dataset, small_ray: None
):
    copied_dataset.schema_path("train").unlink()
    with Agents(run, copied_dataset) as some:
        result = made(lambda: some.train(name))
    assert result.outcome is Outcome.failed
    assert "schema.json" in result.detail


def altered_weights(folder: Path) -> None:
    """Add 1 to the first value of a tensor of RLlib's own state, as a damaged disk could."""
    (file,) = (folder / "algorithm/learner_group/learner/rl_module").glob("default_policy/module_state.*")
    state = pickle.loads(file.read_bytes())
    name = next(name for name, values in state.items() if values.ndim == 2)
    state[name] = state[name].copy()
    state[name].flat[0] += 1
    file.write_bytes(pickle.dumps(state))


def altered_policy(folder: Path) -> None:
    """Change the weights of the policy folder alone."""
    file = folder / "policy/policy.pt"
    torch.save({name: tensor + 0.1 for name, tensor in torch.load(file).items()}, file)


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize(
    ("alter", "reason"),
    [(altered_weights, "tensors differ after loading"), (altered_policy, "the policy folder acts otherwise")],
)
def test_a_checkpoint_that_was_altered_between_save_and_load_fails(
    name: str,
    alter: Callable[[Path], None],
    reason: str,
    agents: Callable[..., Agents],
    monkeypatch: pytest.MonkeyPatch,
):
    some = agents()
    assert made(lambda: some.train(name)).outcome is Outcome.passed
    save = SiteTrainable.save_checkpoint

    def save_and_alter(self: SiteTrainable, checkpoint_dir: str) -> None:
        save(self, checkpoint_dir)
        alter(Path(checkpoint_dir))

    monkeypatch.setattr(SiteTrainable, "save_checkpoint", save_and_alter)
    result = made(lambda: some.round_trip(name))
    assert result.outcome is Outcome.failed
    assert reason in result.detail


def test_an_algorithm_that_the_run_does_not_train_is_skipped(agents: Callable[..., Agents]):
    some = agents("algorithms.sac=null")
    for check in (some.train, some.round_trip):
        result = made(partial(check, "sac"))
        assert (result.outcome, result.detail) == (Outcome.skipped, "the run does not train SAC")


@pytest.mark.parametrize("file", ["train_all.yaml", "train_report.yaml", "quick.yaml"])
@pytest.mark.parametrize("envs", [1, 8, 512])
def test_the_smallest_run_is_a_run_of_the_same_agents(file: str, envs: int):
    run = load_run(ROOT / "ray_configs/runs" / file, [f"resources.envs_per_runner={envs}"])
    small = smallest_run(run)
    assert Model.model_validate_json(small.model_dump_json()) == small
    assert small.algorithms.names == run.algorithms.names
    shrunk = {"n_steps", "minibatch_size", "batch_size", "buffer_size", "warmup_steps"}
    for name in run.algorithms.names:
        before, after = (getattr(one.algorithms, name).model_dump() for one in (run, small))
        changed = {key for key, value in before.items() if after[key] != value}
        assert changed <= shrunk | {"env_steps", "steps_per_iteration"}
        assert all(after[key] <= max(before[key], envs) for key in changed & shrunk)
