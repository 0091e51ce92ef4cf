"""Measurements of speed, each against a named reference in the same run."""

from iquitos_rl.bench.engine import EngineBenchmark, bench_engine, engine_table

__all__ = ["EngineBenchmark", "bench_engine", "engine_table"]
