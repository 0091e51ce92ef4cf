"""A site's dataset that is there as long as a measurement takes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from iquitos_rl.config.site import SiteConfig
from iquitos_rl.env.batch.years import CACHE_VARIABLE
from iquitos_rl.site import Dataset, build_dataset

__all__ = ["temporary_site"]


@contextmanager
def temporary_site(site: SiteConfig, train_years: int) -> Iterator[Dataset]:
    """Build some training years of a site, one validation and one test year, and remove them in the end.

    Tables of a site that is thrown away do not belong into the user's cache either; processes started within
    the block see the temporary one.
    """
    years = site.years.model_copy(update={"train": train_years, "validation": 1, "test": 1})
    with tempfile.TemporaryDirectory() as folder, _cache_in(Path(folder) / "cache"):
        yield build_dataset(site.model_copy(update={"years": years}), Path(folder) / "site", 1)


@contextmanager
def _cache_in(folder: Path) -> Iterator[None]:
    before = os.environ.get(CACHE_VARIABLE)
    os.environ[CACHE_VARIABLE] = str(folder)
    try:
        yield
    finally:
        del os.environ[CACHE_VARIABLE]
        if before is not None:
            os.environ[CACHE_VARIABLE] = before
