"""The benchmark measures what it says: both engines on one site, medians and their ratios."""

from __future__ import annotations

import json

import pytest

from iquitos_rl.bench import bench_engine, engine_table
from tests.evaluation.test_compare import rendered
from tests.small_site import small_site

pytestmark = pytest.mark.integration


def test_both_engines_are_measured_and_compared():
    said: list[str] = []
    result = bench_engine(small_site(), (1, 4), repeats=1, citylearn_steps=24, say=said.append)
    assert result.site == "small_site"
    assert result.sockets == 3
    assert result.citylearn_steps_per_s > 0
    assert result.ratio == {
        count: rate / result.citylearn_steps_per_s for count, rate in result.batch_steps_per_s.items()
    }
    assert result.ratio.keys() == {1, 4}
    assert 0 < result.construction_s < result.citylearn_construction_s + 60
    assert said
    plain = json.loads(json.dumps(result.to_json()))
    assert {"citylearn_steps_per_s", "batch_steps_per_s", "ratio"} <= plain.keys()
    assert plain["ratio"].keys() == {"1", "4"}
    text = "\n".join(rendered(engine_table(result)))
    assert "small_site, 3 sockets" in text
    assert "CityLearnEnv, bare" in text
