"""The batch engine: CityLearn's numbers for many environments at once. See docs/engine.md."""

from iquitos_rl.env.batch.engine import BatchEngine
from iquitos_rl.env.batch.schema import UnsupportedSchemaError
from iquitos_rl.env.batch.vector_env import BatchVectorEnv
from iquitos_rl.env.batch.years import SiteYears, load_years

__all__ = ["BatchEngine", "BatchVectorEnv", "SiteYears", "UnsupportedSchemaError", "load_years"]
