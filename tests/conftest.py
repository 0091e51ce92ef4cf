"""Settings that must be in place before any test module imports torch or Ray."""

import os
import shutil
import tempfile

os.environ["OMP_NUM_THREADS"] = "1"  # torch reads it at import; two processes with two threads each crawl
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# Prepared tables of many small sites do not belong into the user's cache. Ray's workers inherit this.
os.environ["IQUITOS_RL_CACHE"] = CACHE = tempfile.mkdtemp(prefix="iquitos_rl-tests-")


def pytest_unconfigure() -> None:
    """Remove what the session has cached."""
    shutil.rmtree(CACHE, ignore_errors=True)
