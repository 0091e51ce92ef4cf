"""The shipped YAML files carry the report's numbers, and reach RLlib; wrong values are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from iquitos_rl.algorithms import A2C, PPO, SAC, build_algorithm_config
from iquitos_rl.config.algorithm import AlgorithmSettings

REPORT: dict[str, dict[str, Any]] = {
    "a2c": {
        "env_steps": 500_000,
        "n_steps": 2048,
        "learning_rate": 1e-4,
        "entropy_coefficient": {"start": 0.01, "end": 0.001},
        "minibatch_size": 146,
        "gamma": 0.99,
        "hidden": (128, 128),
    },
    "sac": {
        "env_steps": 3 * 8_759,
        "batch_size": 256,
        "buffer_size": 200_000,
        "learning_rate": 5e-5,
        "target_entropy": "auto",
        "hidden": (256, 256),
        "warmup_steps": 1_000,
        "updates_per_env_step": 1,
    },
    "ppo": {
        "env_steps": 500_000,
        "n_steps": 2048,
        "learning_rate": 1e-4,
        "entropy_coefficient": {"start": 0.01, "end": 0.001},
        "target_kl": 0.02,
        "hidden": (256, 256),
    },
}
STABLE_BASELINES3: dict[str, dict[str, Any]] = {
    "a2c": {
        "gae_lambda": 1.0,
        "value_coefficient": 0.5,
        "max_grad_norm": 0.5,
        "normalize_advantage": False,
        "rmsprop_alpha": 0.99,
        "rmsprop_epsilon": 1e-5,
        "activation": "tanh",
    },
    "sac": {"gamma": 0.99, "tau": 0.005, "critic_loss": "mse", "initial_alpha": 1.0, "activation": "relu"},
    "ppo": {
        "minibatch_size": 64,
        "epochs": 10,
        "gamma": 0.99,
        "gae_lambda": 0.95,
        "clip_range": 0.2,
        "value_coefficient": 0.5,
        "max_grad_norm": 0.5,
        "normalize_advantage": True,
        "adam_epsilon": 1e-5,
        "activation": "tanh",
    },
}
ALGORITHMS = sorted(REPORT)


@pytest.mark.parametrize("source", [REPORT, STABLE_BASELINES3], ids=["report", "stable-baselines3"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_yaml_files_carry_the_stated_numbers(
    algorithm: str, source: dict[str, dict[str, Any]], load_settings: Callable[..., Any]
) -> None:
    settings = load_settings(algorithm).model_dump()
    assert {key: settings[key] for key in source[algorithm]} == source[algorithm]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_number_has_a_source(algorithm: str, settings_dict: Callable[[str], dict[str, Any]]) -> None:
    known = REPORT[algorithm].keys() | STABLE_BASELINES3[algorithm].keys()
    assert set(settings_dict(algorithm)) - known == {"algorithm"} | (
        {"steps_per_iteration"} if algorithm == "sac" else set()
    )


@pytest.mark.parametrize(
    ("algorithm", "change", "where"),
    [
        ("a2c", {"learning_rat": 1e-4}, "learning_rat"),
        ("ppo", {"buffer_size": 1000}, "buffer_size"),
        ("a2c", {"learning_rate": "1e-4"}, "learning_rate"),
        ("a2c", {"n_steps": 2048.5}, "n_steps"),
        ("ppo", {"normalize_advantage": 1}, "normalize_advantage"),
        ("ppo", {"hidden": 256}, "hidden"),
        ("ppo", {"hidden": []}, "hidden"),
        ("a2c", {"learning_rate": 0.0}, "learning_rate"),
        ("a2c", {"gamma": 1.01}, "gamma"),
        ("a2c", {"minibatch_size": 4096}, "minibatch_size"),
        ("a2c", {"entropy_coefficient": 0.01}, "entropy_coefficient"),
        ("a2c", {"entropy_coefficient": {"start": 0.01, "end": -0.001}}, "end"),
        ("ppo", {"target_kl": 0.0}, "target_kl"),
        ("sac", {"tau": 0.0}, "tau"),
        ("sac", {"critic_loss": "mae"}, "critic_loss"),
        ("sac", {"target_entropy": "automatic"}, "target_entropy"),
        ("sac", {"buffer_size": 100}, "buffer_size"),
        ("sac", {"activation": "sigmoid"}, "activation"),
        ("ppo", {"algorithm": "trpo"}, "trpo"),
    ],
)
def test_wrong_settings_are_refused(
    algorithm: str, change: dict[str, Any], where: str, load_settings: Callable[..., Any]
) -> None:
    with pytest.raises(ValidationError, match=where):
        load_settings(algorithm, **change)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_no_setting_may_be_left_out(algorithm: str, settings_dict: Callable[[str], dict[str, Any]]) -> None:
    complete = settings_dict(algorithm)
    for key in complete:
        partial = {name: value for name, value in complete.items() if name != key}
        with pytest.raises(ValidationError, match=key):
            TypeAdapter(AlgorithmSettings).validate_json(json.dumps(partial))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_settings_cannot_be_changed_afterwards(algorithm: str, load_settings: Callable[..., Any]) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_settings(algorithm).gamma = 0.5


@pytest.mark.parametrize(("algorithm", "algo_class"), [("a2c", A2C), ("ppo", PPO), ("sac", SAC)])
def test_settings_reach_rllib(algorithm: str, algo_class: type, load_settings: Callable[..., Any]) -> None:
    settings = load_settings(algorithm)
    config: Any = build_algorithm_config(settings, env="any", env_config={"a": 1}, num_envs=8, seed=4)
    assert config.algo_class is algo_class
    assert (config.env, config.env_config, config.seed) == ("any", {"a": 1}, 4)
    assert config.num_envs_per_env_runner == 8
    assert config.gamma == settings.gamma
    assert config.normalize_actions
    assert not config.model_config["head_fcnet_hiddens"]
    assert config.model_config["fcnet_hiddens"] == list(settings.hidden)
    assert config.model_config["fcnet_activation"] == settings.activation
    if algorithm == "sac":
        assert config.lr is None
        assert {config.actor_lr, config.critic_lr, config.alpha_lr} == {5e-5}
        assert config.replay_buffer_config == {"type": "EpisodeReplayBuffer", "capacity": 200_000}
        assert (config.train_batch_size_per_learner, config.n_step, config.tau) == (256, 1, 0.005)
        assert (config.critic_loss, config.num_steps_sampled_before_learning_starts) == ("mse", 1_001)
    else:
        assert config.lr == 1e-4
        assert config.entropy_coeff == [[0, 0.01], [500_000, 0.001]]
        assert config.minibatch_size == settings.minibatch_size
        assert (config.train_batch_size_per_learner, config.get_rollout_fragment_length()) == (2048, 256)
        assert (config.lambda_, config.grad_clip, config.vf_loss_coeff) == (settings.gae_lambda, 0.5, 0.5)
        assert not config.use_kl_loss
        assert not config.model_config["vf_share_layers"]
        assert config.model_config["free_log_std"]
    if algorithm == "ppo":
        assert (config.num_epochs, config.clip_param, config.target_kl) == (10, 0.2, 0.02)
    if algorithm == "a2c":
        assert (config.num_epochs, config.rmsprop_alpha, config.rmsprop_epsilon) == (1, 0.99, 1e-5)


@pytest.mark.parametrize("algorithm", ["a2c", "ppo"])
def test_the_rollout_is_a_total_over_runners_and_learners(
    algorithm: str, load_settings: Callable[..., Any]
) -> None:
    settings = load_settings(algorithm)
    config: Any = build_algorithm_config(
        settings, env="any", env_config={}, num_envs=16, num_env_runners=4, num_learners=2
    )
    assert config.total_train_batch_size == 2048
    assert config.get_rollout_fragment_length(worker_index=1) * 16 * 4 == 2048
    assert config.minibatch_size * 2 == settings.minibatch_size


@pytest.mark.parametrize("learners", [0, 2])
@pytest.mark.parametrize("runners", [0, 1, 3])
@pytest.mark.parametrize("ratio", [1.0, 0.3, 2.5])
def test_sac_trains_on_the_stated_samples_per_sample(
    ratio: float, runners: int, learners: int, load_settings: Callable[..., Any]
) -> None:
    config: Any = build_algorithm_config(
        load_settings("sac", updates_per_env_step=ratio),
        env="any",
        env_config={},
        num_envs=4,
        num_env_runners=runners,
        num_learners=learners,
    )
    assert config.total_train_batch_size == 256
    assert config.training_intensity / config.total_train_batch_size == ratio


@pytest.mark.parametrize(
    ("algorithm", "options", "message"),
    [
        ("a2c", {"num_envs": 48}, r"n_steps = 2048: .* 48 .* n_steps 2016 or 2064, or 32 or 64 environments"),
        ("ppo", {"num_envs": 10, "num_env_runners": 3}, r"n_steps = 2048: .* 30 .* 2040 or 2070"),
        ("a2c", {"num_learners": 3}, r"n_steps = 2048: must be a multiple of num_learners, 3"),
        (
            "a2c",
            {"num_learners": 4},
            r"minibatch_size = 146: .* num_learners, 4; nearest allowed: 144 or 148",
        ),
        ("sac", {"num_learners": 3}, r"batch_size = 256: .* nearest allowed: 255 or 258"),
        ("sac", {"num_envs": 200_001}, r"buffer_size = 200000: must be at least 200001, one transition"),
        ("sac", {"num_envs": 50_001, "num_env_runners": 4}, r"at least 200004, .* 50001 x env runners 4"),
        ("ppo", {"num_envs": 0}, r"num_envs = 0: must be at least 1"),
        ("ppo", {"env_steps": 0}, r"env_steps = 0: must be at least 1"),
    ],
)
def test_impossible_combinations_say_what_would_be_possible(
    algorithm: str, options: dict[str, Any], message: str, load_settings: Callable[..., Any]
) -> None:
    with pytest.raises(ValueError, match=message):
        build_algorithm_config(load_settings(algorithm), env="any", env_config={}, **options)


@pytest.mark.parametrize("algorithm", ["a2c", "ppo"])
def test_the_whole_rollout_can_be_one_minibatch(algorithm: str, load_settings: Callable[..., Any]) -> None:
    """However many steps it turns out to have: a rollout ends a few steps late after resets."""
    settings = load_settings(algorithm, minibatch_size=None)
    assert settings.minibatch_size is None
    assert build_algorithm_config(settings, env="unused", env_config={}).minibatch_size is None
