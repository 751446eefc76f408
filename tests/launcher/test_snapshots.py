"""A damaged snapshot is named and the one before taken; nothing is called restored that is not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import pytest

from caffebench.common.errors import InputError
from caffebench.launcher.state.paths import RunPaths
from caffebench.launcher.state.record import read_record
from caffebench.launcher.state.snapshots import newest_whole

Damage = Callable[[bytes], bytes]


def flip(place: float, bit: int = 0) -> Damage:
    def damage(content: bytes) -> bytes:
        at = min(int(place * len(content)), len(content) - 1)
        return content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]

    return damage


def zero_page(content: bytes) -> bytes:
    at = len(content) // 3
    return content[:at] + bytes(min(4096, len(content) - at)) + content[at + 4096 :]


DAMAGE: dict[str, Damage] = {
    **{f"bit {bit} at {place}": flip(place, bit) for place in (0, 0.1, 0.37, 0.5, 0.8, 0.99, 1) for bit in (0, 4, 7)},
    "a page of zeros": zero_page,
    "cut": lambda content: content[: len(content) * 2 // 3],
    "cut by one": lambda content: content[:-1],
    "empty": lambda _: b"",
    "one byte more": lambda content: content + b"\0",
    "other": lambda content: b"PK\x03\x04" * (len(content) // 4),
}


@pytest.fixture
def whole(bench: Any) -> RunPaths:
    """Two whole snapshots, of iterations 100 and 200."""
    bench.run(bench.solver(max_iter=200))
    return RunPaths("small", bench.folder / "logs", bench.folder / "snapshots")


def test_any_damage_to_any_file_is_named(whole: RunPaths) -> None:
    for path in vars(whole.snapshot(200)).values():
        content = path.read_bytes()
        for how, damage in DAMAGE.items():
            path.write_bytes(damage(content))
            said: list[str] = []
            assert newest_whole(whole, said.append) == 100, (path.name, how)
            assert len(said) == 1
            assert path.name in said[0], (how, said)
            assert said[0].endswith("; taking the one before")
        path.write_bytes(content)
    assert newest_whole(whole, pytest.fail) == 200


@pytest.mark.parametrize(
    "edit",
    [
        {"seed": 8},
        {"train_batches": 0},
        {"test_batches": []},
        {"state_sha256": "0" * 64},
        {"iteration": 100},
        {"more": 1},
        {"data": []},
        {"record_sha256": None},
    ],
    ids=str,
)
def test_an_edited_record_is_no_record(whole: RunPaths, edit: dict[str, Any]) -> None:
    path = whole.snapshot(200).record
    path.write_text(json.dumps({**json.loads(path.read_text()), **edit}))
    said: list[str] = []
    assert newest_whole(whole, said.append) == 100
    assert path.name in said[0]
    for text in ("[]", "{}", "null", "[" * 100_000, "\ud800", '{"a": NaN}'):
        path.write_bytes(text.encode(errors="surrogatepass"))
        assert newest_whole(whole, said.append) == 100


def test_files_of_two_snapshots_do_not_mix(whole: RunPaths) -> None:
    old, new = whole.snapshot(100), whole.snapshot(200)
    shutil.copy(old.model, new.model)
    said: list[str] = []
    assert newest_whole(whole, said.append) == 100
    shutil.copy(old.record, new.record)
    shutil.copy(old.state, new.state)
    assert newest_whole(whole, said.append) == 100


def test_with_all_damaged_nothing_is_begun_anew(bench: Any, whole: RunPaths) -> None:
    """Training over them would lose what may yet be saved: refused, and nothing is touched."""
    for iteration in (100, 200):
        path = whole.snapshot(iteration).model
        path.write_bytes(flip(0.5)(path.read_bytes()))
    before = {path: path.read_bytes() for path in whole.snapshots.glob("small*")}
    said = bench.run(bench.solver(max_iter=300), code=2)
    assert "small_iter_200.caffemodel is damaged: its SHA-256 is not that of what was written; taking the" in said
    assert "no snapshot of small in snapshots is whole: put one back from a copy, or start over with --fresh" in said
    assert {path: path.read_bytes() for path in whole.snapshots.glob("small*")} == before
    assert not bench.log(2)
    with pytest.raises(InputError, match="is whole"):
        newest_whole(whole, lambda _: None)
    assert "training from the start" in bench.run(bench.solver(max_iter=100), "--fresh")
    assert len(list(whole.snapshots.glob(".replaced/small.1/*"))) == 6


def test_a_finished_run_whose_weights_are_damaged_is_not_done(bench: Any, whole: RunPaths) -> None:
    path, solver = whole.snapshot(200).model, bench.solver(max_iter=200)
    before = path.read_bytes()
    path.write_bytes(flip(0.9)(before))
    said = bench.run(solver)
    assert "small_iter_200.caffemodel is damaged" in said
    assert "training from iteration 100" in said
    assert path.read_bytes() == before, "trained again, to the byte"
    for one in vars(whole.snapshot(200)).values():
        one.unlink()
    assert "it was finished before" in bench.run(solver), "snapshots may be removed"


def test_killed_between_its_last_snapshot_and_its_end_it_leaves_nothing_behind(bench: Any, whole: RunPaths) -> None:
    log = bench.folder / "logs/small.001.log"
    log.write_text("".join(line for line in log.read_text().splitlines(True) if "caffebench: end" not in line))
    assert "small: done at iteration 200" in bench.run(bench.solver(max_iter=200))
    assert not list(whole.partial.glob("small*"))


def test_without_a_record_it_is_one_of_plain_caffe(bench: Any, whole: RunPaths) -> None:
    whole.snapshot(200).record.unlink()
    said = bench.run(bench.solver(max_iter=300))
    assert "small_iter_200.solverstate has no small_iter_200.json beside it and is taken for a snapshot" in said
    assert "not restored: training records (taken for those of an uninterrupted run, as there is no record)" in said
    assert "random streams (seeded anew, as there is no record)" in said
    assert '"restored": ["weights", "solver state"]' in bench.log(2)


def rewrite_lmdb(source: Path, target: Path, keep: Callable[[int], bool], change: bytes | None = None) -> None:
    """A copy of some records of an LMDB, the first one with another value if ``change`` is given."""
    with (
        lmdb.open(str(source), readonly=True, lock=False) as old,
        lmdb.open(str(target), map_size=1 << 26) as new,
        old.begin() as reader,
        new.begin(write=True) as writer,
    ):
        for number, (key, value) in enumerate(reader.cursor()):
            if keep(number):
                writer.put(key, value + (change or b"" if number == 0 else b""))


@pytest.mark.parametrize("workers", [0, 2])
def test_data_of_another_size_are_not_called_restored(bench: Any, digits_root: Path, workers: int) -> None:
    data = bench.folder / "data"
    data.unlink()
    shutil.copytree(digits_root, data)
    solver = bench.solver(max_iter=200)
    if workers:
        text = (bench.folder / solver).read_text()
        (bench.folder / solver).write_text(f"# caffebench: loader: {{workers: {workers}}}\n{text}")
    bench.run(solver)
    shutil.rmtree(data / "digits/train_lmdb")
    rewrite_lmdb(digits_root / "digits/train_lmdb", data / "digits/train_lmdb", lambda number: number < 1000)
    said = bench.run(solver, "--max-iter", 300)
    assert (
        "not restored: training records (data/digits/train_lmdb has 1,000 records, and had 1,437 at the snapshot: read "
        "from the first one)" in said
    )
    assert '"restored": ["weights", "solver state", "test records", "random streams"]' in bench.log(2)
    record = read_record(bench.folder / "snapshots/small_iter_300.json")
    assert record is not None
    assert record.train_batches == 100, "those of the new data"
    assert "not restored" not in bench.run(solver, "--max-iter", 350)


def test_nor_are_other_data_of_the_same_size(bench: Any, digits_root: Path) -> None:
    bench.run(bench.solver(max_iter=200))
    (bench.folder / "other/digits").mkdir(parents=True)
    shutil.copytree(digits_root / "digits/train_lmdb", bench.folder / "other/digits/train_lmdb")
    rewrite_lmdb(digits_root / "digits/test_lmdb", bench.folder / "other/digits/test_lmdb", lambda _: True, b"\x28\x07")
    said = bench.run(bench.solver(max_iter=300), "--data-root", "other")
    assert "not restored: test records (other/digits/test_lmdb has not the content that it had at the snapshot" in said
    assert '"restored": ["weights", "solver state", "training records", "random streams"]' in bench.log(2)


def test_another_batch_size_goes_on_at_the_same_record(bench: Any) -> None:
    """200 batches of 32 are 6,400 records, 133 batches of 48 and 16 records more."""
    bench.run(bench.solver(max_iter=200))
    said = bench.run(bench.solver(max_iter=300, batch=48))
    assert "not restored: training records (16 records come once more, the batch size has changed)" in said
