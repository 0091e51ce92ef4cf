"""SAC's update: the numbers of RLlib and of Stable-Baselines3, at every minibatch, on every learner."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import stable_baselines3
import torch
from ray.rllib.algorithms.sac.torch.default_sac_torch_rl_module import DefaultSACTorchRLModule
from ray.rllib.algorithms.sac.torch.sac_torch_learner import SACTorchLearner
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from stable_baselines3.common.logger import configure
from stable_baselines3.common.type_aliases import ReplayBufferSamples

from iquitos_rl.algorithms import SACConfig, build_algorithm_config
from iquitos_rl.algorithms.errors import NonFiniteGradientError
from iquitos_rl.algorithms.sac_module import QNetworkCatalog

SAMPLES = 64
HIDDEN = (16, 12)
LOG_ALPHA = -0.4
LOSSES = ("policy_loss", "qf_loss", "qf_twin_loss", "alpha_loss")
SMALL = {"hidden": list(HIDDEN), "learning_rate": 1e-3, "batch_size": SAMPLES}


def _samples(count: int = SAMPLES, seed: int = 0) -> dict[str, np.ndarray]:
    """Transitions with rewards that put the errors of the critics on both sides of 1."""
    rng = np.random.default_rng(seed)
    return {
        "obs": rng.normal(size=(count, 2)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (count, 2)).astype(np.float32),
        "rewards": rng.normal(0.0, 2.0, count).astype(np.float32),
        "new_obs": rng.normal(size=(count, 2)).astype(np.float32),
        "terminateds": rng.random(count) < 0.2,
    }


def _batch(samples: dict[str, np.ndarray]) -> MultiAgentBatch:
    count = len(samples["rewards"])
    return MultiAgentBatch({DEFAULT_MODULE_ID: SampleBatch(deepcopy(samples))}, env_steps=count)


def _module(learner: Any) -> Any:
    return learner.module[DEFAULT_MODULE_ID].unwrapped()


def _set_log_alpha(learner: Any) -> None:
    with torch.no_grad():
        learner.curr_log_alpha[DEFAULT_MODULE_ID].fill_(LOG_ALPHA)


def _results(learner: Any, samples: dict[str, np.ndarray], minibatch_size: int = SAMPLES) -> dict[str, float]:
    results = learner.update(batch=_batch(samples), timesteps={}, minibatch_size=minibatch_size)
    return {name: float(stat.peek()) for name, stat in results[DEFAULT_MODULE_ID].items()}


def _gradients(learner: Any) -> dict[str, torch.Tensor]:
    gradients = {
        name: parameter.grad.clone()
        for name, parameter in _module(learner).named_parameters()
        if parameter.requires_grad
    }
    return gradients | {"alpha": learner.curr_log_alpha[DEFAULT_MODULE_ID].grad.clone()}


def _everything(learner: Any) -> dict[str, torch.Tensor]:
    """Weights, target networks, temperature and what the optimisers remember."""
    tensors = dict(_module(learner).state_dict())
    tensors["alpha"] = learner.curr_log_alpha[DEFAULT_MODULE_ID].detach()
    for name, optimizer in learner._named_optimizers.items():
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}.{index}.{key}": torch.as_tensor(value) for key, value in state.items()}
    return {name: tensor.clone() for name, tensor in tensors.items()}


@pytest.fixture
def build(point_env: Any, load_settings: Callable[..., Any]) -> Callable[..., Any]:
    """Build a learner of ours on the point environment."""

    def start(seed: int = 5, **changes: Any) -> Any:
        settings = load_settings("sac", **(SMALL | changes))
        learner = build_algorithm_config(settings, env="unused", env_config={}, seed=seed).build_learner(
            env=point_env
        )
        _set_log_alpha(learner)
        return learner

    return start


class StockConfig(SACConfig):
    """RLlib's own module and learner, on Q-networks of our shape."""

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        return RLModuleSpec(module_class=DefaultSACTorchRLModule, catalog_class=QNetworkCatalog)

    def get_default_learner_class(self) -> Any:
        return SACTorchLearner


def _stock_learner(ours: Any, env: Any) -> Any:
    config = StockConfig().update_from_dict(
        {key: value for key, value in ours.config.to_dict().items() if key in ("model", "gamma", "tau")}
    )
    config.rl_module(model_config=ours.config.model_config)
    learner = config.build_learner(env=env)
    _module(learner).load_state_dict(_module(ours).state_dict())
    _set_log_alpha(learner)
    return learner


def _feed_noise(noise: tuple[torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let another library draw ours: first for the actions now, then for the next ones."""
    draws = list(noise)

    def draw(self: Any, sample_shape: Any = None) -> torch.Tensor:
        return self.loc + self.scale * draws.pop(0)

    for method in ("rsample", "sample"):
        monkeypatch.setattr(torch.distributions.Normal, method, draw)


def test_losses_and_gradients_are_rllibs(
    build: Callable[..., Any], point_env: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = build(critic_loss="huber")
    stock = _stock_learner(ours, point_env)
    samples = _samples()
    noise = ours.next_noise(SAMPLES, 2)

    results = _results(ours, samples)
    _feed_noise(noise, monkeypatch)
    ones = np.ones(SAMPLES, np.float32)
    expected = stock.update(batch=_batch(samples | {"weights": ones, "n_step": ones}), timesteps={})
    expected = expected[DEFAULT_MODULE_ID]

    for name in (*LOSSES, "td_error_mean", "qf_mean", "qf_min", "qf_max", "total_loss", "alpha_value"):
        assert results[name] == pytest.approx(float(expected[name].peek()), abs=1e-5), name
    gradients, expected_gradients = _gradients(ours), _gradients(stock)
    assert gradients.keys() == expected_gradients.keys()
    for name, gradient in gradients.items():
        assert gradient.abs().max() > 1e-4, name
        torch.testing.assert_close(gradient, expected_gradients[name], atol=1e-5, rtol=0, msg=name)


def test_network_outputs_are_rllibs(
    build: Callable[..., Any], point_env: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Among them what the critics' targets are made of: values and log probabilities of the next actions."""
    ours = build()
    stock = _stock_learner(ours, point_env)
    with torch.no_grad():
        for parameter in _module(stock).target_qf_encoder.parameters():
            parameter.add_(0.1)  # targets must not be mistaken for the networks that they follow
    _module(ours).load_state_dict(_module(stock).state_dict())
    rows = {name: torch.from_numpy(column) for name, column in _samples().items()}
    noise = ours.next_noise(SAMPLES, 2)
    outputs = _module(ours).forward_train(rows | {"noise": noise[0], "next_noise": noise[1]})
    _feed_noise(noise, monkeypatch)
    expected = _module(stock).forward_train(rows)
    for name, output in outputs.items():
        torch.testing.assert_close(output, expected[name], atol=1e-5, rtol=0, msg=name)


def _sb3_model(env: Any, ours: Any) -> tuple[Any, list[tuple[str, Any, Any]]]:
    """Stable-Baselines3's SAC with our weights, and the pairs of corresponding parameters, ours first."""
    model: Any = stable_baselines3.SAC(
        "MlpPolicy",
        env,
        learning_rate=1e-3,
        gamma=0.99,
        tau=0.005,
        policy_kwargs={"net_arch": list(HIDDEN)},
        seed=1,
        device="cpu",
    )
    model.set_logger(configure(None, []))
    module, actor = _module(ours), model.actor
    with torch.no_grad():
        # a narrow policy: near -1 and 1 their density has an artificial 1e-6, and ours is exact
        module.pi.net.mlp[-1].bias[2:] = -1.5
    pairs = [
        (f"policy {name}", mine, theirs)
        for mine, (name, theirs) in zip(
            module.pi_encoder.parameters(), actor.latent_pi.named_parameters(), strict=True
        )
    ]
    for ours_name, theirs_of in (("qf", "critic"), ("target_qf", "critic_target")):
        for twin, network in zip(("", "_twin"), getattr(model, theirs_of).q_networks, strict=True):
            mine_all = [
                *getattr(module, f"{ours_name}{twin}_encoder").parameters(),
                *getattr(module, f"{ours_name}{twin}").parameters(),
            ]
            names = [f"{ours_name}{twin} {name}" for name, _ in network.named_parameters()]
            pairs += list(zip(names, mine_all, network.parameters(), strict=True))
    with torch.no_grad():
        for _, mine, theirs in pairs:
            theirs.copy_(mine)
        for kind in ("weight", "bias"):
            both = getattr(module.pi.net.mlp[-1], kind)
            for part, head in zip(both.chunk(2), (actor.mu, actor.log_std), strict=True):
                getattr(head, kind).copy_(part)
        model.log_ent_coef.fill_(LOG_ALPHA)
    return model, pairs


def test_losses_and_gradients_are_stable_baselines3s(
    build: Callable[..., Any], point_env: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = build(critic_loss="mse")
    model, pairs = _sb3_model(point_env, ours)
    samples = _samples()
    column = {name: torch.from_numpy(values).float() for name, values in samples.items()}
    data = ReplayBufferSamples(
        observations=column["obs"],
        actions=column["actions"],
        next_observations=column["new_obs"],
        dones=column["terminateds"][:, None],
        rewards=column["rewards"][:, None],
    )
    monkeypatch.setattr(model.replay_buffer, "sample", lambda *_, **__: data)
    # They update the critics before the policy's gradient is taken: here the critics stand still.
    monkeypatch.setattr(model, "_update_learning_rate", lambda _: None)
    model.critic.optimizer.param_groups[0]["lr"] = 0.0
    expected: dict[int, torch.Tensor] = {}

    def note(optimizer: Any, *_: Any) -> None:
        for parameter in optimizer.param_groups[0]["params"]:
            expected.setdefault(id(parameter), parameter.grad.clone())

    for optimizer in (model.critic.optimizer, model.actor.optimizer, model.ent_coef_optimizer):
        optimizer.register_step_pre_hook(note)
    noise = ours.next_noise(SAMPLES, 2)

    results = _results(ours, samples)
    _feed_noise(noise, monkeypatch)
    model.train(gradient_steps=1, batch_size=SAMPLES)

    logged = model.logger.name_to_value
    assert results["qf_loss"] + results["qf_twin_loss"] == pytest.approx(
        logged["train/critic_loss"], abs=1e-5
    )
    assert results["policy_loss"] == pytest.approx(logged["train/actor_loss"], abs=1e-5)
    assert results["alpha_loss"] == pytest.approx(logged["train/ent_coef_loss"], abs=1e-5)
    trained = [pair for pair in pairs if not pair[0].startswith("target")]
    assert len(trained) == 4 + 2 * 6
    for name, mine, theirs in trained:
        torch.testing.assert_close(mine.grad, expected[id(theirs)], atol=1e-5, rtol=0, msg=name)
    head = _module(ours).pi.net.mlp[-1]
    for kind in ("weight", "bias"):
        both = [expected[id(getattr(part, kind))] for part in (model.actor.mu, model.actor.log_std)]
        torch.testing.assert_close(getattr(head, kind).grad, torch.cat(both), atol=1e-5, rtol=0)
    alpha = ours.curr_log_alpha[DEFAULT_MODULE_ID]
    torch.testing.assert_close(alpha.grad, expected[id(model.log_ent_coef)], atol=1e-5, rtol=0)
    # and Adam takes the same step
    torch.testing.assert_close(alpha, model.log_ent_coef, atol=1e-6, rtol=0)
    for _, mine, theirs in trained[:4]:
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=0)


def test_both_critic_losses_agree_below_an_error_of_one(build: Callable[..., Any]) -> None:
    results = {}
    for scale in (0.01, 3.0):
        samples = _samples()
        samples["rewards"] *= scale
        samples["terminateds"][:] = True  # nothing but the reward is the target
        results[scale] = [_results(build(critic_loss=kind), samples)["qf_loss"] for kind in ("mse", "huber")]
    assert results[0.01][0] == pytest.approx(results[0.01][1], rel=1e-5)
    assert results[3.0][0] > 1.5 * results[3.0][1]


def test_minibatches_of_one_call_are_updates_one_by_one(build: Callable[..., Any]) -> None:
    """Targets move, and noise is drawn anew, at each of them."""
    together, apart = build(), build()
    samples = _samples(3 * SAMPLES)
    results = _results(together, samples)
    singles = [
        _results(apart, {name: column[first : first + SAMPLES] for name, column in samples.items()})
        for first in range(0, 3 * SAMPLES, SAMPLES)
    ]
    state, expected = _everything(together), _everything(apart)
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in state)
    assert results["num_minibatch_updates"] == 3
    for name in (*LOSSES, "entropy", "grad_norm"):
        assert results[name] == pytest.approx(np.mean([single[name] for single in singles]), rel=1e-5)


def test_target_networks_follow_at_the_stated_rate(build: Callable[..., Any]) -> None:
    learner = build(tau=0.25)
    before = _everything(learner)
    _results(learner, _samples())
    after = _everything(learner)
    followed = [name for name, _ in _module(learner).named_parameters() if name.startswith("qf")]
    assert len(followed) == 2 * 6
    for name in followed:
        expected = 0.75 * before[f"target_{name}"] + 0.25 * after[name]
        torch.testing.assert_close(after[f"target_{name}"], expected, atol=1e-6, rtol=0)
        assert not torch.equal(after[name], before[name])


@pytest.mark.parametrize(
    ("column", "value", "named"),
    [("rewards", np.nan, "qf_loss"), ("obs", np.inf, "policy_loss"), ("new_obs", np.nan, "qf_twin_loss")],
)
def test_a_gradient_that_is_not_finite_is_never_applied(
    column: str, value: float, named: str, build: Callable[..., Any]
) -> None:
    learner = build()
    _results(learner, _samples())
    before = _everything(learner)
    samples = _samples(seed=1)
    samples[column][3] = value
    with pytest.raises(NonFiniteGradientError, match=rf"SAC: .* update 2 .*{named}"):
        learner.update(batch=_batch(samples), timesteps={"num_env_steps_sampled_lifetime": 1_234})
    after = _everything(learner)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_learners_state_is_all_that_its_updates_depend_on(build: Callable[..., Any]) -> None:
    learner = build()
    _results(learner, _samples())
    restored = build()
    restored.set_state(deepcopy(learner.get_state()))
    for seed in (1, 2):
        for each in (learner, restored):
            _results(each, _samples(seed=seed))
    first, second = _everything(learner), _everything(restored)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.integration
# Ray Data's own settings, read by Ray where it starts remote learners
@pytest.mark.filterwarnings("ignore:`use_[a-z_0-9]+` is deprecated:DeprecationWarning")
def test_two_learners_average_their_gradients(
    ray_session: str, build: Callable[..., Any], point_env: Any, load_settings: Callable[..., Any]
) -> None:
    """The temperature's too; and both stay the same."""
    samples = _samples()
    settings = load_settings("sac", **SMALL)
    config = build_algorithm_config(settings, env=ray_session, env_config={}, num_learners=2, seed=5)
    group: Any = config.build_learner_group(env=point_env)
    try:
        group.foreach_learner(func=_set_log_alpha)
        parts = []
        for learner, rows in enumerate((slice(0, SAMPLES // 2), slice(SAMPLES // 2, None))):
            alone = build(batch_size=SAMPLES // 2)
            state = group.get_state()["learner"]["rl_module"][DEFAULT_MODULE_ID]
            _module(alone).load_state_dict({name: torch.tensor(value) for name, value in state.items()})
            noise = alone.next_noise(SAMPLES // 2, 2, learner=learner)
            alone.next_noise = lambda *_, noise=noise: noise
            _results(alone, {name: column[rows] for name, column in samples.items()}, SAMPLES // 2)
            parts.append(_gradients(alone))
        group.update(batch=_batch(samples), timesteps={}, minibatch_size=SAMPLES // 2)
        first, second = (result.get() for result in group.foreach_learner(func=_gradients))
        for name, gradient in first.items():
            mean = 0.5 * (parts[0][name] + parts[1][name])
            assert not torch.allclose(parts[0][name], parts[1][name], atol=1e-5), name
            torch.testing.assert_close(gradient, mean, atol=1e-6, rtol=1e-5, msg=name)
            assert torch.equal(gradient, second[name])
        results = group.update(batch=_batch(_samples(seed=1)), timesteps={}, minibatch_size=SAMPLES // 2)
        counts = [result[DEFAULT_MODULE_ID]["num_minibatch_updates"].peek() for result in results]
        assert counts == [0.5, 0.5]
        states = [result.get() for result in group.foreach_learner(func=_everything)]
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
        bad = samples | {"rewards": np.where(np.arange(SAMPLES) == 0, np.nan, samples["rewards"])}
        with pytest.raises(NonFiniteGradientError, match=r"update 3 .* not finite"):
            group.update(batch=_batch(bad), timesteps={}, minibatch_size=SAMPLES // 2)
    finally:
        group.shutdown()
