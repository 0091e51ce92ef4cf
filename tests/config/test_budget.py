"""How long each algorithm trains, and which hours a window covers."""

import pytest

from iquitos_rl.config import WindowConfig, load_run


def test_the_algorithms_own_budgets_hold_without_a_stop(report_file):
    run = load_run(report_file)
    assert {name: run.budget_env_steps(name) for name in run.algorithms.names} == {
        "a2c": 500_000,
        "sac": 26_277,
        "ppo": 500_000,
    }


def test_env_steps_are_each_algorithms_budget(report_file):
    run = load_run(report_file, ["stop.env_steps=1234"])
    assert [run.budget_env_steps(name) for name in run.algorithms.names] == [1234] * 3


def test_an_episode_of_the_budget_is_a_year_whatever_the_window(report_file):
    run = load_run(report_file, ["stop.episodes=3", "environment.episode_steps=24"])
    assert run.budget_env_steps("sac") == 3 * 8759 == 26_277


@pytest.mark.parametrize(
    ("start_day", "steps", "start_step", "step_count"),
    [
        (0, None, 0, 8759),
        (0, 8759, 0, 8759),
        (0, 168, 0, 168),
        (10, None, 240, 8519),
        (364, None, 8736, 23),
        (364, 23, 8736, 23),
    ],
)
def test_windows_without_steps_go_to_the_end_of_the_year(start_day, steps, start_step, step_count):
    window = WindowConfig(start_day=start_day, steps=steps)
    assert (window.start_step, window.step_count) == (start_step, step_count)


@pytest.mark.parametrize(("start_day", "steps"), [(364, 24), (1, 8736), (0, 8760)])
def test_windows_beyond_the_year_are_refused(start_day, steps):
    with pytest.raises(ValueError, match="8759"):
        WindowConfig(start_day=start_day, steps=steps)
