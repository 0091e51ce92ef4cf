"""Controllers by name or by folder; what is refused, in one line and without running what a file holds."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from iquitos_rl.control import ControllerError, Rule, TrainedPolicy, load_controller
from tests.control.situations import episode, plant, situation
from tests.training.policies import make_policy

WritePolicy = Callable[..., Path]


def error_of(name_or_path: str | Path) -> str:
    with pytest.raises(ControllerError) as caught:
        load_controller(name_or_path)
    text = str(caught.value)
    assert "\n" not in text, f"more than one line: {text}"
    return text


def loaded(path: Path, **options: Any) -> TrainedPolicy:
    controller = load_controller(path, **options)
    assert isinstance(controller, TrainedPolicy)
    return controller


def env_steps(controller: TrainedPolicy) -> int:
    return int(controller.policy.origin["env_steps"])


def test_no_control_by_its_name():
    assert isinstance(load_controller("no_control"), Rule)


def test_a_policy_folder_itself(policy_in: WritePolicy):
    controller = loaded(policy_in("somewhere"))
    assert controller.name == "a2c"
    assert controller.act(situation(observation=np.zeros((1, 50)))).shape == (1, 5)


def test_a_checkpoint_gives_its_best_policy_unless_the_latest_is_wanted(policy_in: WritePolicy):
    policy_in("checkpoint_000000/policy", env_steps=200)
    policy_in("checkpoint_000000/best_policy", env_steps=100)
    checkpoint = policy_in("checkpoint_000000/policy", env_steps=200).parent
    assert env_steps(loaded(checkpoint)) == 100
    assert env_steps(loaded(checkpoint, latest=True)) == 200


def test_a_checkpoint_before_the_first_validation_gives_its_only_policy(policy_in: WritePolicy):
    checkpoint = policy_in("checkpoint_000000/policy", env_steps=50).parent
    assert env_steps(loaded(checkpoint)) == 50


def test_of_a_trial_the_newest_checkpoint_by_number_is_taken(policy_in: WritePolicy, tmp_path: Path):
    for number in (10, 9, 2):  # written in another order, so that times of files do not decide
        policy_in(f"trial/checkpoint_{number:06}/policy", env_steps=number)
    os.utime(tmp_path / "trial/checkpoint_000002")
    assert env_steps(loaded(tmp_path / "trial")) == 10


def test_a_checkpoint_that_was_not_written_to_its_end_is_passed_over(policy_in: WritePolicy, tmp_path: Path):
    policy_in("trial/checkpoint_000001/policy", env_steps=1)
    (tmp_path / "trial/checkpoint_000002/algorithm").mkdir(parents=True)
    assert env_steps(loaded(tmp_path / "trial")) == 1


def test_what_the_policy_was_trained_with_decides_masking_and_observation(tmp_path: Path):
    make_policy(tmp_path, origin={"mask_idle": False, "observation": "raw"})
    controller = loaded(tmp_path)
    assert (controller.mask_idle, controller.observation) == (False, "raw")


def test_an_unknown_name_is_answered_with_the_names_there_are(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = error_of("laxity_frist")
    assert "laxity_frist" in text
    assert "no_control" in text


def test_a_folder_without_a_policy(tmp_path: Path):
    text = error_of(tmp_path)
    assert str(tmp_path) in text
    assert "no policy" in text


def test_a_file_is_not_a_checkpoint(tmp_path: Path):
    file = tmp_path / "policy.pt"
    file.write_bytes(b"x")
    assert str(file) in error_of(file)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"format": "something else"}',
        bytes(range(256)),
        b'{"format": "iquitos-rl policy", "format_version": 1}',
        b'{"format": "iquitos-rl policy", "format_version": 1, "settings": {}, "observation_size": 5}',
    ],
    ids=["empty", "truncated", "list", "null", "other format", "binary", "no settings", "no bounds"],
)
def test_a_damaged_description_is_named(content: bytes, policy_in: WritePolicy):
    folder = policy_in("damaged")
    (folder / "policy.json").write_bytes(content)
    assert "policy.json" in error_of(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("observation_size", "many"),
        ("observation_size", None),
        ("observation_size", -1),
        ("action_low", []),
        ("action_low", [0.0, "low"]),
        ("action_low", [None, 0.0, 0.0, 0.0, 0.0]),
        ("action_low", [[0.0], [0.0], [0.0], [0.0], [0.0]]),
        ("action_low", [2.0, 0.0, 0.0, 0.0, 0.0]),
        ("action_high", None),
        ("origin", "a text"),
        ("origin", [1, 2]),
    ],
)
def test_a_description_with_a_wrong_value_is_refused_in_one_line(
    key: str, value: Any, policy_in: WritePolicy
):
    folder = policy_in("wrong")
    description = json.loads((folder / "policy.json").read_text(encoding="utf-8"))
    (folder / "policy.json").write_text(json.dumps(description | {key: value}), encoding="utf-8")
    error_of(folder)


def test_a_later_format_version_is_refused_with_both_versions(policy_in: WritePolicy):
    folder = policy_in("later")
    description = json.loads((folder / "policy.json").read_text(encoding="utf-8"))
    (folder / "policy.json").write_text(json.dumps(description | {"format_version": 2}), encoding="utf-8")
    text = error_of(folder)
    assert "version 2" in text
    assert "reads 1" in text


def test_settings_of_an_unknown_algorithm_are_refused(policy_in: WritePolicy):
    folder = policy_in("unknown")
    description = json.loads((folder / "policy.json").read_text(encoding="utf-8"))
    description["settings"]["algorithm"] = "dqn"
    (folder / "policy.json").write_text(json.dumps(description), encoding="utf-8")
    assert "policy.json" in error_of(folder)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-40],
        lambda content: b"\x00\xff" * 500,
        lambda content: b"PK\x03\x04" + content[50:],
    ],
    ids=["empty", "half", "tail missing", "binary", "wrong zip"],
)
def test_damaged_weights_are_named(damage: Callable[[bytes], bytes], policy_in: WritePolicy):
    folder = policy_in("damaged")
    weights = folder / "policy.pt"
    weights.write_bytes(damage(weights.read_bytes()))
    text = error_of(folder)
    assert "policy.pt" in text
    assert "damaged" in text


def test_missing_weights_are_named(policy_in: WritePolicy):
    folder = policy_in("missing")
    (folder / "policy.pt").unlink()
    assert "policy.pt: the file is missing" in error_of(folder)


@pytest.mark.parametrize("changes", [{"hidden": [16]}, {"hidden": [8, 8]}], ids=["wider", "deeper"])
def test_weights_of_another_network_are_refused(changes: dict[str, Any], tmp_path: Path):
    make_policy(tmp_path / "one")
    make_policy(tmp_path / "other", **changes)
    os.replace(tmp_path / "other/policy.pt", tmp_path / "one/policy.pt")
    assert "policy.pt" in error_of(tmp_path / "one")


def test_weights_that_are_no_mapping_of_tensors_are_refused(policy_in: WritePolicy):
    folder = policy_in("list")
    torch.save([1, 2, 3], folder / "policy.pt")
    assert "policy.pt" in error_of(folder)


class Payload:
    """Creates a file when it is unpickled by an unpickler that runs what it is told to."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.file),)


def as_torch_archive(target: Path, payload: Payload) -> None:
    torch.save({"weights": payload}, target)


def as_plain_pickle(target: Path, payload: Payload) -> None:
    target.write_bytes(pickle.dumps(payload))


def smuggled_into_good_weights(target: Path, payload: Payload) -> None:
    with zipfile.ZipFile(target) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, pickle.dumps(payload) if name.endswith("data.pkl") else content)


@pytest.mark.parametrize("write", [as_torch_archive, as_plain_pickle, smuggled_into_good_weights])
def test_code_in_the_weights_file_is_not_run(
    write: Callable[[Path, Payload], None], policy_in: WritePolicy, tmp_path: Path
):
    folder = policy_in("malicious")
    trace = tmp_path / "the payload ran"
    write(folder / "policy.pt", Payload(trace))
    error_of(folder)
    assert not trace.exists()


def test_the_payload_of_these_tests_does_run_where_pickles_are_trusted(tmp_path: Path):
    trace = tmp_path / "the payload ran"
    as_torch_archive(tmp_path / "policy.pt", Payload(trace))
    torch.load(tmp_path / "policy.pt", weights_only=False)
    assert trace.exists()


def test_a_policy_for_another_number_of_sockets_is_refused_with_both_numbers(policy_in: WritePolicy):
    controller = loaded(policy_in("six", sockets=6))
    site = episode(plant((2.0,)))
    with pytest.raises(ValueError, match=r"trained for 64 observations, this site has 3"):
        controller.prepare(site)


def test_a_policy_for_the_same_observations_but_other_actions_is_refused(policy_in: WritePolicy):
    controller = loaded(policy_in("four", sockets=4))
    same = episode(plant((2.0,)), observation_space=controller.policy.observation_space)
    with pytest.raises(ValueError, match=r"trained for 5 actions, this site has 2"):
        controller.prepare(same)


def test_an_observation_of_another_length_is_refused(policy_in: WritePolicy):
    controller = loaded(policy_in("four"))
    with pytest.raises(ValueError, match=r"\(1, 49\).*\(50,\)"):
        controller.act(situation(observation=np.zeros((1, 49))))


def test_a_policy_for_another_layout_of_equal_length_is_refused(tmp_path: Path):
    layout: dict[str, object] = {"site_features": ["hour", "price"], "sockets": ["moto_001"]}
    make_policy(tmp_path, origin={"layout": layout})
    controller = loaded(tmp_path)

    spaces: dict[str, Any] = {
        "observation_space": controller.policy.observation_space,
        "action_space": controller.policy.action_space,
    }
    controller.prepare(episode(**spaces, observation_layout=layout))
    other = layout | {"site_features": ["price", "hour"]}
    with pytest.raises(ValueError, match="site_features has 'hour' where this site has 'price'"):
        controller.prepare(episode(**spaces, observation_layout=other))
