"""A2C, PPO and SAC as Ray RLlib algorithms, and their configuration from our settings."""

import logging

from iquitos_rl.algorithms.a2c import A2C, A2CConfig
from iquitos_rl.algorithms.build import build_algorithm_config
from iquitos_rl.algorithms.ppo import PPO, PPOConfig
from iquitos_rl.algorithms.sac import SAC, SACConfig

__all__ = ["A2C", "PPO", "SAC", "A2CConfig", "PPOConfig", "SACConfig", "build_algorithm_config"]

# RLlib 2.60 warns, each time it builds a module, about a deprecated call of its own.
logging.getLogger("ray._common.deprecation").setLevel(logging.ERROR)
