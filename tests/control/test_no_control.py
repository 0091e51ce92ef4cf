"""No control: what every site does on its own, and what all scores are relative to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from gymnasium import spaces

from iquitos_rl.control import NoControl


@dataclass
class Site:
    """What a controller sees of an environment."""

    low: list[float]
    has_bess: bool

    @property
    def action_space(self) -> spaces.Box:
        low = np.array(self.low, np.float32)
        return spaces.Box(low, np.ones_like(low), dtype=np.float32)

    @property
    def observation_space(self) -> spaces.Box:
        return spaces.Box(-1.0, 1.0, (3,), np.float32)

    @property
    def observation_layout(self) -> dict[str, object]:
        return {"names": ["a", "b", "c"]}


def act(site: Site, shape: tuple[int, ...] = (3,)) -> np.ndarray:
    controller = NoControl()
    controller.prepare(site)
    return controller.act(np.zeros(shape, np.float32))


def test_every_socket_asks_its_rated_power_and_the_bess_rests():
    assert act(Site([-1.0, 0.0, 0.0], has_bess=True)).tolist() == [0.0, 1.0, 1.0]


def test_without_a_bess_the_first_action_is_a_socket():
    assert act(Site([0.0, 0.0], has_bess=False)).tolist() == [1.0, 1.0]


def test_a_socket_that_may_discharge_charges_all_the_same():
    assert act(Site([-1.0, -1.0, 0.0], has_bess=True)).tolist() == [0.0, 1.0, 1.0]
    assert act(Site([-1.0, 0.0], has_bess=False)).tolist() == [1.0, 1.0]


def test_one_action_for_each_observation_of_a_batch():
    actions = act(Site([-1.0, 0.0], has_bess=True), (5, 2, 3))
    assert actions.shape == (5, 2, 2)
    assert (actions == [0.0, 1.0]).all()


def test_requests_of_empty_sockets_are_not_masked():
    assert NoControl().mask_idle is False


def test_preparing_for_another_site_changes_nothing_of_the_first_environment():
    first = Site([-1.0, 0.0], has_bess=True)
    space = first.action_space
    controller = NoControl()
    controller.prepare(first)
    controller.prepare(Site([-1.0, 0.0, 0.0], has_bess=True))
    assert space.high.tolist() == [1.0, 1.0]
    assert controller.act(np.zeros(3, np.float32)).tolist() == [0.0, 1.0, 1.0]


@pytest.mark.integration
def test_the_real_environment_ignores_the_bess_and_gives_the_static_share(small_dataset):
    from iquitos_rl.env import make_env

    env = make_env(small_dataset.schema_path("test"), mask_idle=False, episode_steps=24)
    controller = NoControl()
    controller.prepare(env)
    observation, _ = env.reset()
    for _ in range(24):
        observation, _, _, _, info = env.step(controller.act(observation))
        assert info["bess_charge_kwh"] == info["bess_discharge_kwh"] == 0.0
        # 5 kW for 9 kW of sockets: those with a vehicle cannot have more than their share
        assert info["ev_draw_kwh"] <= 5.0 + 1e-6
