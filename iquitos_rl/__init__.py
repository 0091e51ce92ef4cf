"""Train, compare and deploy A2C, SAC and PPO controllers for an EV charging site, on Ray RLlib and CityLearn.

Imports point one way, and importing `iquitos_rl` itself loads none of its parts:
cli, service → training, evaluation → algorithms, control → env → site → kpis → objectives → config.
"""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["__version__"]

try:
    __version__ = version("iquitos-rl")
except PackageNotFoundError:  # run from a source folder that nobody installed
    __version__ = "0+unknown"
