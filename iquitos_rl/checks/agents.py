"""The algorithms: each is built on the site, takes one training step, and survives being saved and loaded.

What runs is the trainable of real training, in this process, with the run's own hyperparameters and networks;
only the rollout, the batches and the validation are made as small as they can be, and the years are simulated
by the batch engine. So what fails here would have failed in training, and what passes here learns nothing.
"""

from __future__ import annotations

import logging
import math
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray import tune
from ray.train._internal.storage import StorageContext

from iquitos_rl.checks.check import CheckFailed, CheckSkipped
from iquitos_rl.config import RunConfig, WindowConfig
from iquitos_rl.config.run import StopConfig
from iquitos_rl.control import TrainedPolicy, load_controller
from iquitos_rl.env import make_vector_env
from iquitos_rl.site import Dataset
from iquitos_rl.training.cluster import Connection, connect, trial_resources
from iquitos_rl.training.outputs import FAILURE
from iquitos_rl.training.trainable import SiteTrainable, TrialTask
from iquitos_rl.training.tuner import check_algorithm

__all__ = ["Agents", "quiet_rllib", "smallest_run"]

ROLLOUT_STEPS = 16
"""About how many steps A2C and PPO gather, in two minibatches."""
REPLAYED_STEPS = 32
"""At most so many steps SAC gathers before its updates, and replays in each."""
OBSERVATIONS = 16
UNCOMPARED = ("metrics_logger",)
"""Parts of a learner's state that are counts of what it reported, not what it learned."""


class Agents:
    """The agents of a run on one Ray, which is started when it is first needed.

    Args:
        run: the run.
        dataset: its data.

    A context manager: at its end the agents and Ray are stopped, whatever happened.
    """

    def __init__(self, run: RunConfig, dataset: Dataset) -> None:
        self._run = run
        self._dataset = dataset
        self._trained: dict[str, SiteTrainable] = {}
        self._stack = ExitStack()
        self._connection: Connection | None = None

    def __enter__(self) -> Agents:
        return self

    def __exit__(self, *error: object) -> None:
        with quiet_rllib():
            self._stack.close()

    def train(self, name: str) -> str:
        """Build an algorithm and take one training step.

        Raises:
            CheckFailed: nothing was learned, or not finite.
            CheckSkipped: the run does not have it.
            ValueError: settings that contradict each other, or resources that this machine does not have.
        """
        self._in_run(name)
        with quiet_rllib():
            connection = self._connect()
            self._check_settings(name, connection)
            agent = self._build(name)
            before = _learned(agent)
            result = self._step(name, agent)
        after = _learned(agent)
        # Target networks move by rounding alone where the networks they follow stand still.
        weights = [key for key in before if key.startswith("rl_module") and "target" not in key]
        changed = set(_differences(before, after)).intersection(weights)
        updates, steps = result["minibatch_updates"], int(result["env_steps"])
        losses = {key: result[key] for key in ("policy_loss", "value_loss")}
        wrong = [f"{key} is {value}" for key, value in losses.items() if not math.isfinite(value)]
        wrong += [f"{key} is not finite" for key, value in after.items() if not _is_finite(value)]
        if wrong:
            raise CheckFailed(f"{name.upper()}: after the training step {wrong[0]}", _settings_of(name))
        if not updates >= 1 or not changed:
            raise CheckFailed(
                f"{name.upper()}: {steps} environment steps, and no weight was changed", _settings_of(name)
            )
        self._trained[name] = agent
        return f"{steps} steps, {_count(updates, 'update')}, score {result['validation_score']:.2f} in a day"

    def round_trip(self, name: str) -> str:
        """Save the trained agent, load it into a fresh one, and compare weights and actions.

        Raises:
            CheckFailed: they differ.
            CheckSkipped: the agent has not trained.
        """
        self._in_run(name)
        if name not in self._trained:
            raise CheckSkipped(f"{name.upper()} has not trained, see above")
        saved = self._trained[name]
        with tempfile.TemporaryDirectory(prefix="iquitos_rl-check-") as folder, quiet_rllib():
            saved.save_checkpoint(folder)
            size_mb = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file()) / 1e6
            loaded = self._build(name)
            loaded.load_checkpoint(folder)
            controller = load_controller(folder, latest=True)
        assert isinstance(controller, TrainedPolicy)
        before = _learned(saved)
        different = _differences(before, _learned(loaded))
        if different:
            raise CheckFailed(
                f"{name.upper()}: {len(different)} of {len(before)} tensors differ after loading, the first "
                f"is {different[0]}",
                "a checkpoint of this installation cannot be gone on with: check the disk and the versions",
            )
        observations = self._observations()
        expected = saved.policy().act(observations)
        for what, policy in (("restored agent", loaded.policy()), ("policy folder", controller.policy)):
            differing = int((policy.act(observations) != expected).any(axis=1).sum())
            if differing:
                raise CheckFailed(
                    f"{name.upper()}: the {what} acts otherwise in {differing} of {len(expected)} situations",
                    "do not trust checkpoints of this installation: check the disk and the versions",
                )
        return f"{len(before)} tensors, {len(expected)} actions equal; {size_mb:.0f} MB"

    def _in_run(self, name: str) -> None:
        if getattr(self._run.algorithms, name) is None:
            raise CheckSkipped(f"the run does not train {name.upper()}")

    def _connect(self) -> Connection:
        if self._connection is None:
            self._connection = self._stack.enter_context(connect("local", dashboard=False))
        return self._connection

    def _check_settings(self, name: str, connection: Connection) -> None:
        """Refuse what the run itself, at its full size, could not start with."""
        check_algorithm(self._run, name)
        trial_resources(self._run.resources, len(self._run.algorithms.names), connection)

    def _build(self, name: str) -> SiteTrainable:
        task = TrialTask(
            run=smallest_run(self._run).model_dump_json(),
            dataset_path=str(self._dataset.path),
            fingerprint=self._dataset.fingerprint,
        )
        # Ray keeps the files of such a trial with its own, in a folder of this session.
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="iquitos_rl-check-"))
        storage = StorageContext(folder, experiment_dir_name="check", trial_dir_name=name)
        trainable: Any = tune.with_parameters(SiteTrainable, task=task)
        agent: SiteTrainable = trainable({"algorithm": name}, storage=storage)
        self._stack.callback(agent.stop)
        return agent

    def _step(self, name: str, agent: SiteTrainable) -> dict[str, Any]:
        try:
            result: dict[str, Any] = agent.train()
        except Exception as error:  # torch, RLlib and the environment each refuse wrong numbers in their way
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise CheckFailed(
                f"{name.upper()}: the training step fails: {reason}", _settings_of(name)
            ) from error
        if result[FAILURE]:
            raise CheckFailed(
                f"{name.upper()}: the training step fails: {result[FAILURE]}", _settings_of(name)
            )
        return result

    def _observations(self) -> NDArray[np.float32]:
        """Some hours of the site, shape (16, observations)."""
        environment = self._run.environment
        envs = make_vector_env(
            self._dataset.schema_path("validation"),
            OBSERVATIONS,
            observation=environment.observation,
            mask_idle=environment.mask_idle,
            random_start="day",
        )
        try:
            envs.reset(seed=self._run.seed)
            envs.action_space.seed(self._run.seed)
            for _ in range(12):  # from midnight to noon: vehicles are there
                observations, *_ = envs.step(envs.action_space.sample())
        finally:
            envs.close()
        return np.asarray(observations, np.float32)


def _settings_of(name: str) -> str:
    return f"look at algorithms.{name} of the run, the learning rate first"


def smallest_run(run: RunConfig) -> RunConfig:
    """The run with the smallest rollouts and batches that still do everything once; one iteration each."""
    envs = run.resources.envs_per_runner
    rollout = envs * math.ceil(ROLLOUT_STEPS / envs)
    small: dict[str, Any] = {}
    for name in ("a2c", "ppo"):
        settings = getattr(run.algorithms, name)
        if settings is not None:
            minibatch = min(settings.minibatch_size or rollout, max(1, rollout // 2))
            small[name] = settings.model_copy(
                update={"n_steps": rollout, "minibatch_size": minibatch, "env_steps": rollout}
            )
    if (sac := run.algorithms.sac) is not None:
        warmup = min(sac.warmup_steps, REPLAYED_STEPS)
        rounds = math.ceil(1 / (sac.updates_per_env_step * envs)) + 1
        steps = warmup + (rounds + 1) * envs
        small["sac"] = sac.model_copy(
            update={
                "warmup_steps": warmup,
                "batch_size": min(sac.batch_size, REPLAYED_STEPS),
                "buffer_size": min(sac.buffer_size, 10 * steps),
                "steps_per_iteration": steps,
                "env_steps": steps,
            }
        )
    day = (WindowConfig(start_day=0, steps=24),)
    return run.model_copy(
        update={
            "algorithms": run.algorithms.model_copy(update=small),
            "stop": StopConfig(),
            "environment": run.environment.model_copy(update={"engine": "batch"}),
            "resources": run.resources.model_copy(update={"env_runners": 0}),
            "validation": run.validation.model_copy(update={"windows": day}),
        }
    )


def _learned(agent: SiteTrainable) -> dict[str, Any]:
    """What the learner holds: weights of all networks and the optimisers' state, by their path.

    Copies, because RLlib hands out views of tensors that it goes on training.
    """
    learners = agent.algorithm.learner_group
    assert learners is not None
    state = learners.get_state()["learner"]
    return dict(_leaves({key: value for key, value in state.items() if key not in UNCOMPARED}))


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _leaves(value, f"{path}/{key}" if path else str(key))
    elif isinstance(tree, list | tuple):
        for index, value in enumerate(tree):
            yield from _leaves(value, f"{path}/{index}")
    elif hasattr(tree, "detach"):
        yield path, tree.detach().cpu().numpy().copy()
    else:
        yield path, np.array(tree, copy=True) if isinstance(tree, np.ndarray) else tree


def _differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Names that only one has, or whose values are not the same to the bit."""
    return [name for name in dict.fromkeys([*first, *second]) if not _same(first, second, name)]


def _same(first: Mapping[str, Any], second: Mapping[str, Any], name: str) -> bool:
    if name not in first or name not in second:
        return False
    a, b = np.asarray(first[name]), np.asarray(second[name])
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return a.tobytes() == b.tobytes() if a.dtype != object else bool(first[name] == second[name])


def _is_finite(value: Any) -> bool:
    array = np.asarray(value)
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _count(number: float, what: str) -> str:
    return f"{number:.0f} {what}{'' if round(number) == 1 else 's'}"


@contextmanager
def quiet_rllib() -> Iterator[None]:
    """Keep RLlib's notes on its own API off the console; in training they stay in the workers' logs."""
    # Their handlers, because every algorithm sets the logger's own level when it is built.
    handlers = {handler: handler.level for handler in logging.getLogger("ray.rllib").handlers}
    for handler in handlers:
        handler.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*Overriding environment rllib-single-agent-env-v0")
            yield
    finally:
        for handler, level in handlers.items():
            handler.setLevel(level)
