"""The learning study: its task's optimum, its verdict, and one short run of everything in it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from experiments import verify_learning
from tests.algorithms.point_env import STEP_SIZE, PointEnv

LEARNT = [-0.30, -0.29, -0.31, -0.28, -0.30]


@pytest.mark.parametrize(("task", "steps_that_move"), [("point", 20), ("delayed", 19)])
def test_the_best_return_is_that_of_dynamic_programming(task: str, steps_that_move: int) -> None:
    """Backwards over positions 0.01 apart and all steps between them; the cost of action[1] is left at 0."""
    positions = np.linspace(-2.0, 2.0, 401)
    farthest = round(STEP_SIZE / 0.01)
    neighbours = np.arange(401)[:, None] + np.arange(-farthest, farthest + 1)
    reachable = (neighbours >= 0) & (neighbours <= 400)
    neighbours = neighbours.clip(0, 400)
    values = np.zeros(401)
    for _ in range(steps_that_move):
        values = np.where(reachable, values[neighbours] - positions[neighbours] ** 2, -np.inf).max(1)
    values -= (20 - steps_that_move) * positions**2  # with delay the point is still where it began
    seeds = range(
        verify_learning.FIRST_EPISODE_SEED, verify_learning.FIRST_EPISODE_SEED + verify_learning.EPISODES
    )
    starts = [float(PointEnv().reset(seed=seed)[0][0]) for seed in seeds]
    optimum = float(np.mean(np.interp(starts, positions, values)))
    assert verify_learning.mean_return(task, verify_learning.best_policy) == pytest.approx(optimum, abs=1e-3)


@pytest.mark.parametrize(
    ("ours", "reference", "worse"),
    [
        (LEARNT, LEARNT, False),
        ([r - 1.0 for r in LEARNT], LEARNT, True),
        ([r + 1.0 for r in LEARNT], LEARNT, False),
        ([r - 0.1 for r in LEARNT], LEARNT, False),  # surely worse, but by 1 % of the way of 10
        ([-0.3, -0.3, -0.3, -0.3, -5.0], LEARNT, False),  # far worse in the mean, but by one seed of five
        ([-0.3, -0.3, -0.3, -0.3, float("nan")], LEARNT, True),
        ([-1.0, -1.1], [-0.3, -0.3], False),  # two seeds are no verdict
    ],
)
def test_worse_is_more_than_chance_and_more_than_the_margin(
    ours: list[float], reference: list[float], worse: bool
) -> None:
    assert verify_learning.difference(ours, reference, span=10.0)["worse"] is worse


def test_a_difference_has_welchs_interval() -> None:
    """Against the closed form with Satterthwaite's degrees of freedom."""
    found = verify_learning.difference([1.0, 2.0, 3.0], [0.0, 4.0, 8.0], span=1.0)
    error = (1.0 / 3 + 16.0 / 3) ** 0.5
    freedom = error**4 / ((1.0 / 3) ** 2 / 2 + (16.0 / 3) ** 2 / 2)
    assert freedom == pytest.approx(2.249, abs=1e-3)
    assert found["mean"] == pytest.approx(-2.0)
    reach = verify_learning.stats.t.ppf(0.975, freedom) * error
    assert found["interval"] == pytest.approx([-2.0 - reach, -2.0 + reach])


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*Overriding environment rllib-single-agent-env-v0:UserWarning")
def test_all_contenders_learn_and_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert verify_learning.main(["--task", "point", "--seeds", "1", "--env-steps", "240", "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert {"ray", "stable-baselines3", "torch"} <= output["versions"].keys()
    assert [result["algorithm"] for result in output["results"]] == ["a2c", "ppo", "sac"]
    for result in output["results"]:
        assert list(result["contenders"]) == ["ours", "RLlib", "SB3"]
        assert result["differences"].keys() == {"RLlib", "SB3"}
        for name, contender in result["contenders"].items():
            assert contender["interval"] == {"halfway": None, "trained": None}  # one seed
            assert 240 <= contender["env_steps"] < 240 + 256  # whole rollouts
            run = contender["runs"][0]
            assert run["trained"] != run["untrained"], name
            assert run["trained"] <= result["best"]
            # one rollout is enough for PPO to be better, not for the others
            assert result["algorithm"] != "ppo" or run["trained"] > run["untrained"] + 2.0, name


def test_a_number_that_makes_no_sense_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_code:
        verify_learning.main(["--seeds", "0"])
    assert exit_code.value.code == 2
    assert "--seeds 0: must be at least 1" in capsys.readouterr().err
