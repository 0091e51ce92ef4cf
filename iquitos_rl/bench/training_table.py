"""The training benchmark for people: rates by algorithm, the ratios beside their bars, PPO's sweeps."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from iquitos_rl.bench.training import BARS, ENV_SHARE, SB3, Rate, TrainingBenchmark
from iquitos_rl.tables import plain_table

__all__ = ["training_tables"]


def training_tables(benchmark: TrainingBenchmark) -> list[Table]:
    """One table of the rates that the ratios are of, one of the ratios, one of PPO by size, if measured."""
    named = [rate for rate in benchmark.rates if benchmark.is_named(rate)]
    others = [rate for rate in benchmark.rates if not benchmark.is_named(rate)]
    workload = benchmark.workload
    tables = [
        _rates_table(
            f"{benchmark.site}, {benchmark.sockets} sockets, {workload.num_envs} environments, hidden "
            f"{'x'.join(map(str, workload.hidden))}, one thread",
            named,
        ),
        _ratios_table(benchmark),
    ]
    if others:
        ppo = [rate for rate in benchmark.rates if rate.algorithm == "ppo" and rate.learning_ms > 0]
        order = sorted(ppo, key=lambda rate: (rate.env_runners, rate.minibatch_size or 0))
        tables.append(_rates_table("PPO by minibatch and by remote env runners", order))
    sb3 = []
    if any(rate.contender == SB3 for rate in named):
        sb3 = [f"On CityLearn PPO and A2C have rollouts of {workload.citylearn_steps} steps."]
    tables[0].caption = "\n".join(
        [
            "Per second of sampling and learning; ms of one env-step (SAC: update).",
            "CPU: of this process. If less than sampling and learning together, the",
            "machine was busy, and the ratios by CPU time are the ones to trust",
            "where there are no remote runners: the CPU time of these is not in it.",
            "RLlib has no A2C: here it is its PPO, one epoch over one full batch.",
            *sb3,
            *benchmark.remarks,
        ]
    )
    return tables


def _rates_table(title: str, rates: Sequence[Rate]) -> Table:
    table = plain_table(title)
    table.add_column("")
    table.add_column("contender")
    for heading in ("mini-\nbatch", "run-\nners", "per s", "", "sampling\nms", "learning\nms", "CPU\nms"):
        table.add_column(heading, justify="left" if not heading else "right")
    before = ""
    for rate in rates:
        learns = rate.learning_ms > 0
        if before and rate.algorithm != before:
            table.add_section()
        table.add_row(
            rate.algorithm if rate.algorithm != before else "",
            rate.contender,
            _size(rate.minibatch_size) if learns else "",
            str(rate.env_runners) if learns else "",
            f"{rate.per_s:,.0f}" if rate.per_s >= 100 else f"{rate.per_s:.1f}",
            " " + rate.unit.replace("_", "-"),
            f"{rate.sampling_ms:.3g}",
            f"{rate.learning_ms:.3g}" if learns else "",
            f"{rate.cpu_ms:.3g}",
        )
        before = rate.algorithm
    return table


def _ratios_table(benchmark: TrainingBenchmark) -> Table:
    table = plain_table("Ours against each of them, medians of the measurements")
    for heading in ("ratio", "", "bar", "", "by CPU time"):
        table.add_column(heading, justify="left" if heading == "ratio" else "right")
    for name, ratio in benchmark.ratios.items():
        bar, verdict = "", ""
        if name in BARS:
            bar = f"<= {BARS[name]:.0%}" if name == ENV_SHARE else f">= {BARS[name]:g}"
            verdict = " met" if benchmark.meets(name) else " not met"
        table.add_row(name, _text(name, ratio), bar, verdict, _text(name, benchmark.cpu_ratios[name]))
    return table


def _size(minibatch_size: int | None) -> str:
    return "all" if minibatch_size is None else f"{minibatch_size:,}"


def _text(name: str, ratio: float) -> str:
    return f"{ratio:.1%}" if name == ENV_SHARE else f"{ratio:.3g}"
