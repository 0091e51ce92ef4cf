"""Configuration: pydantic models of every YAML a user edits, and their loading."""

from iquitos_rl.config.algorithm import A2CSettings, AlgorithmSettings, PPOSettings, SACSettings
from iquitos_rl.config.loading import load_reward, load_run, load_site
from iquitos_rl.config.reward import OBJECTIVES, RewardWeights
from iquitos_rl.config.run import RunConfig, WindowConfig
from iquitos_rl.config.site import SiteConfig
from iquitos_rl.config.yaml_tree import ConfigError

__all__ = [
    "OBJECTIVES",
    "A2CSettings",
    "AlgorithmSettings",
    "ConfigError",
    "PPOSettings",
    "RewardWeights",
    "RunConfig",
    "SACSettings",
    "SiteConfig",
    "WindowConfig",
    "load_reward",
    "load_run",
    "load_site",
]
