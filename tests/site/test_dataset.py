import fcntl
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from iquitos_rl.site import DatasetError, build, build_dataset, load_dataset
from iquitos_rl.site.dataset import fingerprint_of
from iquitos_rl.site.storage import read_json, write_json

ROOT = Path(__file__).parents[2]


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_dataset_is_what_load_dataset_finds(dataset, small_site):
    found = load_dataset(dataset.path)
    assert found == dataset
    assert load_dataset(dataset.path / "dataset.json") == dataset
    assert found.site == small_site
    assert (found.seed, found.table_format, found.years("train")) == (5, "parquet", 1)
    assert found.schema_path("test") == dataset.path / "test" / "year_0" / "schema.json"
    assert found.schema_path("test").is_file()
    assert found.all_years() == [("train", 0), ("validation", 0), ("test", 0)]
    assert found.verify() == ()
    assert len(found.fingerprint) == 64


def test_unknown_years_and_splits_are_refused(dataset):
    with pytest.raises(DatasetError, match=r"no year 1 in split test.*years\.test"):
        dataset.schema_path("test", 1)
    with pytest.raises(DatasetError, match="unknown split 'dev'"):
        dataset.years("dev")


@pytest.mark.parametrize("table_format", ["parquet", "csv"])
def test_other_cores_and_threads_give_the_same_bytes(dataset, csv_dataset, tmp_path, table_format):
    script = (
        "import os, sys; from pathlib import Path\n"
        "os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})\n"
        "from iquitos_rl.site import build_dataset, load_dataset\n"
        "site = load_dataset(sys.argv[1]).site\n"
        "print(build_dataset(site, sys.argv[2], 5, table_format=sys.argv[3]).fingerprint)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, dataset.path, tmp_path / "again", table_format],
        env={**os.environ, "OMP_NUM_THREADS": "2", "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "77"},
        capture_output=True,
        text=True,
        check=True,
    )
    first = dataset if table_format == "parquet" else csv_dataset
    assert run.stdout.strip() == first.fingerprint
    assert contents(tmp_path / "again") == contents(first.path)


def test_seed_split_year_and_format_change_the_fingerprint(dataset, csv_dataset, small_site, tmp_path):
    other = build_dataset(small_site, tmp_path / "other", seed=6)
    assert len({other.fingerprint, dataset.fingerprint, csv_dataset.fingerprint}) == 3
    sums = {s: dataset.no_control_totals(s)["grid_import_kwh"] for s in ("train", "validation", "test")}
    assert len(set(sums.values())) == 3


def test_more_years_leave_the_first_ones_as_they_were(site_with, dataset, tmp_path):
    more = build_dataset(site_with(years={"train": 2}), tmp_path / "more", seed=5)
    for split in ("train", "validation", "test"):
        assert contents(more.year_path(split)) == contents(dataset.year_path(split))
    assert contents(more.year_path("train", 1)) != contents(more.year_path("train", 0))


def test_the_fingerprint_does_not_depend_on_the_order_of_files():
    assert fingerprint_of({"a": "1", "b": "2"}) == fingerprint_of({"b": "2", "a": "1"})
    assert fingerprint_of({"a": "1", "b": "2"}) != fingerprint_of({"a": "2", "b": "1"})


def test_building_the_same_again_returns_it_untouched(small_site, copied, caplog):
    before = {p: p.stat().st_mtime_ns for p in copied.rglob("*")}
    with caplog.at_level(logging.INFO):
        build_dataset(small_site, copied, seed=5)
    assert before == {p: p.stat().st_mtime_ns for p in copied.rglob("*")}
    assert "is up to date" in caplog.text


def test_another_dataset_is_replaced_only_when_asked(small_site, site_with, copied):
    cases = [
        ({"site": small_site, "seed": 6}, "seed is 5, asked for is 6"),
        ({"site": small_site, "seed": 5, "table_format": "csv"}, "table_format is parquet, asked for is csv"),
        ({"site": site_with(feeder_limit_kw=9.0), "seed": 5}, "the site differs in feeder_limit_kw"),
    ]
    for arguments, reason in cases:
        with pytest.raises(DatasetError, match=rf"{reason}.*--force"):
            build_dataset(out=copied, **arguments)
    replaced = build_dataset(small_site, copied, 6, overwrite=True)
    assert replaced.seed == load_dataset(copied).seed == 6
    assert os.listdir(copied.parent) == ["copy"]


def test_a_damaged_dataset_is_not_up_to_date(small_site, copied):
    file = copied / "test" / "year_0" / "schema.json"
    file.write_text(file.read_text() + " ")
    assert load_dataset(copied).verify() == ("test/year_0/schema.json",)
    with pytest.raises(DatasetError, match=r"changed, the first is test/year_0/schema.json.*--force"):
        build_dataset(small_site, copied, 5)
    assert build_dataset(small_site, copied, 5, overwrite=True).verify() == ()


def test_a_folder_that_is_no_dataset_is_never_replaced(small_site, tmp_path):
    mine = tmp_path / "thesis"
    mine.mkdir()
    (mine / "chapter1.txt").write_text("years of work")
    file = tmp_path / "file"
    file.write_text("x")
    for path in (mine, file):
        for overwrite in (False, True):
            with pytest.raises(DatasetError, match="no dataset of ours"):
                build_dataset(small_site, path, 5, overwrite=overwrite)
    (mine / "dataset.json").write_text('{"format": "something else"}')
    with pytest.raises(DatasetError, match="no dataset of ours"):
        build_dataset(small_site, mine, 5, overwrite=True)
    assert (mine / "chapter1.txt").read_text() == "years of work"


def test_an_empty_folder_may_be_built_into(small_site, tmp_path):
    (tmp_path / "empty").mkdir()
    assert build_dataset(small_site, tmp_path / "empty", 5).verify() == ()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_build_leaves_nothing(small_site, tmp_path, monkeypatch, error):
    def fail(message, done, total):
        if done:
            raise error("stop")

    with pytest.raises(error):
        build_dataset(small_site, tmp_path / "data", 5, progress=fail)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_one_line(small_site, tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(build, "write_year", fail)
    with pytest.raises(DatasetError, match=r"cannot write the dataset \(No space left on device\)"):
        build_dataset(small_site, tmp_path / "data", 5)
    assert os.listdir(tmp_path) == []


def test_an_interrupted_replacement_keeps_the_old_dataset(small_site, copied, monkeypatch):
    monkeypatch.setattr(build, "write_year", lambda *args: (_ for _ in ()).throw(RuntimeError("full disk")))
    with pytest.raises(RuntimeError):
        build_dataset(small_site, copied, 6, overwrite=True)
    assert load_dataset(copied).verify() == ()
    assert os.listdir(copied.parent) == ["copy"]


def test_leftovers_of_a_killed_build_are_removed_but_not_those_of_a_running_one(small_site, tmp_path):
    dead, alive = tmp_path / ".data.partial-1", tmp_path / ".data.partial-2"
    for folder in (dead, alive):
        folder.mkdir()
        (folder / "half.parquet").write_bytes(b"x")
    handle = os.open(alive, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    build_dataset(small_site, tmp_path / "data", 5)
    assert sorted(os.listdir(tmp_path)) == [".data.partial-2", "data"]
    os.close(handle)


def test_nobody_sees_half_a_dataset(small_site, tmp_path):
    out = tmp_path / "data"
    seen = []

    def look(message, done, total):
        seen.append((message, done, total, out.exists()))

    thread = threading.Thread(target=build_dataset, args=(small_site, out, 5), kwargs={"progress": look})
    thread.start()
    thread.join()
    assert seen == [
        ("train year 0", 0, 3, False),
        ("validation year 0", 1, 3, False),
        ("test year 0", 2, 3, False),
        ("done", 3, 3, False),
    ]
    assert out.exists()


def test_a_moved_dataset_is_still_whole(copied, tmp_path):
    shutil.move(copied, tmp_path / "elsewhere")
    assert load_dataset(tmp_path / "elsewhere").verify() == ()
    assert str(tmp_path) not in (tmp_path / "elsewhere" / "dataset.json").read_text()


def test_bad_arguments_are_one_line(small_site, tmp_path):
    with pytest.raises(DatasetError, match="seed -1 is out of range"):
        build_dataset(small_site, tmp_path / "x", -1)
    with pytest.raises(DatasetError, match="table format 'xlsx'"):
        build_dataset(small_site, tmp_path / "x", 1, table_format="xlsx")  # type: ignore[arg-type]
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="cannot write there"):
        build_dataset(small_site, tmp_path / "file" / "x", 1)


def test_no_dataset_says_how_to_make_one(tmp_path):
    with pytest.raises(DatasetError, match=r"iquitos-rl dataset build --out .*nowhere "):
        load_dataset(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("files"), "damaged.*files"),
        (lambda d: d.update(files=[1]), "damaged"),
        (lambda d: d.update(format="zip"), "not the description"),
        (lambda d: d.update(format_version=99), "format version 99, this program reads 1"),
        (lambda d: d["site"].update(feeder_limit_kw=-1), "damaged"),
        (lambda d: d.update(table_format="xml"), "damaged.*xml"),
        (lambda d: d.update(seed="five"), "damaged"),
        (lambda d: d.update(site=None), "damaged"),
    ],
)
def test_a_damaged_description_is_one_line(copied, change, message):
    data = read_json(copied / "dataset.json")
    change(data)
    write_json(data, copied / "dataset.json")
    with pytest.raises(DatasetError, match=message) as error:
        load_dataset(copied)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\x00", b"null"])
def test_a_description_that_is_no_json_is_one_line(copied, content):
    (copied / "dataset.json").write_bytes(content)
    with pytest.raises(DatasetError, match=r"dataset\.json"):
        load_dataset(copied)


def test_a_damaged_no_control_table_is_one_line(copied):
    (copied / "test" / "year_0" / "no_control.parquet").write_bytes(b"nothing")
    with pytest.raises(DatasetError, match=r"no_control\.parquet"):
        load_dataset(copied).no_control("test")


def test_the_schema_names_the_dataset_and_every_random_attribute(dataset, small_site):
    schema = json.loads(dataset.schema_path("validation").read_text())
    assert schema["iquitos_rl"] == {
        "site": "small_site",
        "split": "validation",
        "year": 0,
        "seed": 5,
        "unserved_energy_kg_per_kwh": 2.146,
    }
    assert schema["root_directory"] is None
    building = schema["buildings"]["small_site"]
    assert building["charging_constraints"]["building_limit_kw"] == small_site.feeder_limit_kw
    random = {"efficiency", "loss_coefficient", "capacity_loss_coefficient", "initial_soc"}
    random |= {"power_efficiency_curve", "capacity_power_curve", "depth_of_discharge"}
    random |= {"capacity", "nominal_power"}
    batteries = [building["electrical_storage"]["attributes"]]
    batteries += [vehicle["battery"]["attributes"] for vehicle in schema["electric_vehicles_def"].values()]
    assert len(batteries) == 7
    for attributes in batteries:
        assert set(attributes) == random
        assert None not in attributes.values()
