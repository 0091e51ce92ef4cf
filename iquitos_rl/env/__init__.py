"""The charging site as a Gymnasium environment, and its registration with Gymnasium and Ray."""

from iquitos_rl.env.citylearn_version import TESTED_CITYLEARN

try:
    import citylearn as _citylearn  # noqa: F401
except ImportError as error:  # its own pins conflict with Ray's, so pip cannot install it as a dependency
    raise ImportError(
        f"CityLearn is not installed. Add it with: pip install --no-deps citylearn=={TESTED_CITYLEARN}"
    ) from error

from iquitos_rl.env.batch import BatchVectorEnv, UnsupportedSchemaError
from iquitos_rl.env.charging_env import EVChargingEnv
from iquitos_rl.env.observation import FeatureLayout
from iquitos_rl.env.registration import ENV_ID, make_env, make_vector_env, register
from iquitos_rl.env.reward import MultiObjectiveReward, RewardWeights

__all__ = [
    "ENV_ID",
    "TESTED_CITYLEARN",
    "BatchVectorEnv",
    "EVChargingEnv",
    "FeatureLayout",
    "MultiObjectiveReward",
    "RewardWeights",
    "UnsupportedSchemaError",
    "make_env",
    "make_vector_env",
    "register",
]
