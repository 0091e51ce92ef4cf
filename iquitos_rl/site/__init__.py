"""From a site's configuration to a CityLearn dataset on disk, and its checks."""

from typing import TYPE_CHECKING, Any

from iquitos_rl.site.build import build_dataset
from iquitos_rl.site.dataset import Dataset, load_dataset
from iquitos_rl.site.describe import describe_dataset
from iquitos_rl.site.errors import DatasetError
from iquitos_rl.site.no_control import NoControlYear

if TYPE_CHECKING:
    from iquitos_rl.site.validation import Finding, ValidationReport, validate_dataset

__all__ = [
    "Dataset",
    "DatasetError",
    "Finding",
    "NoControlYear",
    "ValidationReport",
    "build_dataset",
    "describe_dataset",
    "load_dataset",
    "validate_dataset",
]


def __getattr__(name: str) -> Any:
    # Pandera takes a second to import, and every training worker imports this package.
    if name in ("Finding", "ValidationReport", "validate_dataset"):
        from iquitos_rl.site import validation

        return getattr(validation, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
