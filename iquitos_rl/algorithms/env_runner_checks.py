"""What of RLlib's configuration the batched env runner does not do."""

from __future__ import annotations

from typing import Any

from ray.rllib.callbacks.callbacks import RLlibCallback

__all__ = ["check_env_runner_config"]

UNSUPPORTED = (
    "on_episode_created",
    "on_episode_start",
    "on_episode_step",
    "on_episode_end",
)
"""Callbacks of RLlib's that are given an episode object, of which there is none here."""


def check_env_runner_config(config: Any) -> None:
    """Refuse what this runner, and the learners that take its fragments, would silently leave out.

    Raises:
        ValueError: connectors, callbacks on single episodes, or whole episodes as batches; the text says what
            to use instead.
    """
    connectors = ("_env_to_module_connector", "_module_to_env_connector", "_learner_connector")
    if any(getattr(config, name, None) is not None for name in connectors):
        raise ValueError(
            "connectors between environment, module and learner are not run by the batched env runner: scale "
            "observations in the environment, as iquitos_rl's does, so that every checkpoint and every "
            "deployment has it"
        )
    classes = config.callbacks_class
    classes = classes if isinstance(classes, list | tuple) else [classes]
    given = [
        name
        for name in UNSUPPORTED
        if getattr(config, f"callbacks_{name}", None)
        or any(getattr(each, name) is not getattr(RLlibCallback, name) for each in classes)
    ]
    if given:
        raise ValueError(
            f"callbacks {', '.join(given)}: the batched env runner has no episode objects; use "
            "on_sample_end, which is given the fragments"
        )
    if config.batch_mode != "truncate_episodes" and not config.in_evaluation:
        raise ValueError(f"batch_mode {config.batch_mode!r}: fragments need truncate_episodes")
