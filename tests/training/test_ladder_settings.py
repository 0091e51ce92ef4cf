"""What agents are compared with is checked before a run starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from iquitos_rl.training import train
from tests.training.small_run import make_run


def test_a_controller_that_there_is_none_is_refused_before_anything_starts(tmp_path: Path):
    run = make_run(tmp_path, "evaluation.controllers=[best_ruel]")
    with pytest.raises(ValueError, match=r"evaluation\.controllers: best_ruel: neither a controller"):
        train(run, silent=True)
    assert not (tmp_path / "runs").exists()
