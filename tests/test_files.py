"""Result files are replaced whole or not at all."""

import json

import pytest

from iquitos_rl.files import replace_file, write_json


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "result.json"
    write_json(path, {"score": 1})

    def fail(temporary):
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_file(path, fail)
    assert json.loads(path.read_text()) == {"score": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


def test_folders_are_made_and_old_contents_replaced(tmp_path):
    path = tmp_path / "outputs" / "quick" / "summary.json"
    write_json(path, [1])
    write_json(path, [2])
    assert json.loads(path.read_text()) == [2]
