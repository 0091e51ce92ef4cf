"""Which windows episodes cover: spread over the data, never beyond its end, the same for equal seeds."""

import numpy as np
import pytest

from iquitos_rl.env.episodes import Windows, generator


def drawn(windows, count=2000, seed=0):
    random = generator(seed)
    return np.array([windows.choose(random) for _ in range(count)])


@pytest.mark.parametrize(("kind", "all_at_midnight"), [("day", True), ("hour", False)])
def test_random_starts_are_days_or_hours_spread_over_the_year(kind, all_at_midnight):
    starts = drawn(Windows([8760], 24, kind, 0))[:, 1]
    assert (starts % 24 == 0).all() == all_at_midnight
    assert starts.min() < 24 * 7
    assert 8735 - 24 * 7 < starts.max() <= 8735  # the last start that leaves room for a day


@pytest.mark.parametrize("steps", [1, 7, 24, 95, 96])
def test_every_start_that_leaves_room_is_drawn_and_no_other(steps):
    assert set(drawn(Windows([97], steps, "hour", 0))[:, 1]) == set(range(96 - steps + 1))
    assert set(drawn(Windows([97], steps, "day", 0))[:, 1]) == set(range(0, 96 - steps + 1, 24))


def test_each_year_has_its_own_last_start():
    chosen = drawn(Windows([30, 60], 20, "hour", 0))
    assert {int(chosen[chosen[:, 0] == year, 1].max()) for year in (0, 1)} == {9, 39}
    assert Windows([30, 60], None, None, 4).steps == 25  # to the end of the shortest


def test_without_a_random_start_only_the_year_is_drawn():
    chosen = drawn(Windows([97, 97], 24, None, 30), count=50)
    assert set(chosen[:, 1]) == {30}
    assert set(chosen[:, 0]) == {0, 1}


def test_a_window_that_is_given_changes_no_later_one():
    windows = Windows([97, 97, 97], 24, "hour", 0)
    free, guided = generator(5), generator(5)
    first = [windows.choose(free) for _ in range(6)]
    second = [windows.choose(guided, year, start) for year, start in [(2, 7), (1, None), (None, 3)]]
    second += [windows.choose(guided) for _ in range(3)]
    assert second[3:] == first[3:]
    assert second[0] == (2, 7)
    assert second[1][0] == 1
    assert second[2] == (first[2][0], 3)


def test_streams_of_one_seed_are_apart_and_each_can_be_had_again():
    draws = [generator(3, stream).integers(10**9, size=4).tolist() for stream in (0, 1, 2, 1)]
    assert draws[1] == draws[3]
    assert len({tuple(d) for d in draws}) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([97], 24, "week", 0), "random_start 'week'"),
        (([97], 0, None, 0), "episode_steps 0"),
        (([97], 97, "hour", 0), "the data has 96 steps"),
        (([97, 50], 60, "day", 0), "the data has 49 steps"),
        (([97], None, None, 96), "start_step 96"),
    ],
)
def test_windows_that_do_not_fit_the_data_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        Windows(*arguments)


@pytest.mark.parametrize(
    ("year", "start", "said"),
    [
        (2, 0, "year 2: there are 2"),
        (-1, 0, "year -1"),
        (0, -1, "start_step -1"),
        (1, 73, "no room for 24 of 96"),
    ],
)
def test_a_window_outside_the_data_is_refused(year, start, said):
    windows = Windows([97, 97], 24, "hour", 0)
    with pytest.raises(ValueError, match=said):
        windows.choose(generator(0), year, start)
