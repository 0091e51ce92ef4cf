"""Settings that must be in place before any test module imports torch or Ray."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # torch reads it at import; two processes with two threads each crawl
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
