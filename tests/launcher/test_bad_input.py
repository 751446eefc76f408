"""Each wrong request ends in one clear line and the right exit code, with nothing started or lost."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest

from caffebench.common.errors import InputError
from caffebench.engine.features import caffe_has_gpu, caffe_is_there
from caffebench.engine.locate import caffe_pb2
from caffebench.launcher.gpu.devices import choose_gpus
from caffebench.launcher.state.paths import RunPaths


def refusal(bench: Any, *arguments: object) -> str:
    """The one line that ``run-caffe`` refuses with."""
    error = bench.run(*arguments, code=2)
    lines = [line for line in error.splitlines() if not line.startswith("training on")]
    assert len(lines) == 1, error
    return str(lines[0])


def write_lmdb(path: Path, *shapes: tuple[int, int, int]) -> None:
    with lmdb.open(str(path), map_size=1 << 20) as environment, environment.begin(write=True) as transaction:
        for number, (channels, height, width) in enumerate(shapes):
            data = np.zeros(channels * height * width, np.uint8).tobytes()
            datum = caffe_pb2().Datum(channels=channels, height=height, width=width, data=data)
            transaction.put(b"%08d" % number, datum.SerializeToString())


def test_no_such_file(bench: Any) -> None:
    assert "no such file: prototxt/bs129.prototxt" in refusal(bench, "prototxt/bs129.prototxt")


def test_a_net_instead_of_a_solver(bench: Any) -> None:
    (bench.folder / "net.prototxt").write_text('name: "net"\nlayer { name: "data" type: "Input" top: "data" }\n')
    assert 'net.prototxt is a net, not a solver: give a solver prototxt that names it with net: "net.prototxt"' in (
        refusal(bench, "net.prototxt")
    )


def test_not_a_prototxt_at_all(bench: Any) -> None:
    (bench.folder / "x.prototxt").write_text("hello: { world\n")
    assert "x.prototxt is not a solver prototxt that Caffe can read: line 1" in refusal(bench, "x.prototxt")
    (bench.folder / "x.prototxt").write_bytes(b"\xff\xfe\x00\x80")
    assert "x.prototxt is not a text file" in refusal(bench, "x.prototxt")


def test_a_missing_lmdb_and_how_to_make_it(bench: Any) -> None:
    (bench.folder / "data").unlink()
    line = refusal(bench, bench.solver())
    assert "the LMDB data/digits/train_lmdb, which is not there" in line
    assert '"make-lmdb digits data/digits"' in line
    assert "elsewhere/digits" in refusal(bench, "small.prototxt", "--data-root", "elsewhere")
    assert not (bench.folder / "logs").exists()


def test_an_lmdb_that_is_empty(bench: Any) -> None:
    write_lmdb(bench.folder / "empty")
    line = refusal(bench, with_source(bench, "empty"))
    assert "the LMDB empty is empty: make it again with" in line


def test_an_lmdb_that_is_none(bench: Any) -> None:
    (bench.folder / "none").mkdir()
    (bench.folder / "none/data.mdb").write_bytes(b"x" * 9000)
    assert "none, which small.prototxt trains on, is not an LMDB that can be read" in (
        refusal(bench, with_source(bench, "none"))
    )


def test_an_lmdb_of_the_wrong_image_size(bench: Any) -> None:
    write_lmdb(bench.folder / "large", (1, 9, 9))
    assert "training images come out as 1x9x9 and the test images as 1x8x8" in (
        refusal(bench, with_source(bench, "large"))
    )
    solver = bench.solver()
    text = (bench.folder / solver).read_text().replace("mean_value: 78", "crop_size: 12 mean_value: 78")
    (bench.folder / solver).write_text(text)
    assert "are 1x8x8, too small for crop_size 12 in layer data" in refusal(bench, solver)


def test_lmdbs_of_one_wrong_image_size_that_no_crop_betrays(bench: Any) -> None:
    """Caffe would train on them without a word: only the header knows what the file was made for."""
    path = bench.folder / bench.solver()
    (bench.folder / "data").unlink()
    (bench.folder / "data/digits").mkdir(parents=True)
    for name in ("train_lmdb", "test_lmdb"):
        write_lmdb(bench.folder / "data/digits" / name, (1, 9, 9))
    path.write_text("# caffebench: shape: [1, 8, 8]\n" + path.read_text())
    assert (
        "the images in data/digits/train_lmdb are 1x9x9 and small.prototxt was made for 1x8x8: make the LMDB again "
        'with "make-lmdb digits data/digits"' in refusal(bench, path.name)
    )


def test_a_data_set_of_another_size_is_said(bench: Any) -> None:
    solver = bench.solver(max_iter=1)
    path = bench.folder / solver
    path.write_text("# caffebench: train_size: 50000\n# caffebench: test_size: 360\n" + path.read_text())
    error = bench.run(solver)
    assert "small.prototxt was made for 50,000 training images and the LMDB has 1,437" in error
    assert "test images" not in error


def with_source(bench: Any, source: str) -> Path:
    solver: Path = bench.solver()
    text = (bench.folder / solver).read_text().replace("data/digits/train_lmdb", source)
    (bench.folder / solver).write_text(text)
    return solver


@pytest.mark.skipif(caffe_is_there() and caffe_has_gpu(), reason="this Caffe was built with CUDA")
def test_gpu_asked_of_a_caffe_without_one(bench: Any) -> None:
    assert "built for the CPU only: build one with install-caffe --cuda" in (refusal(bench, bench.solver(), "--gpu", 0))


def test_gpu_ids() -> None:
    assert choose_gpus("0,1", False, built=True, present=2) == (0, 1)
    assert choose_gpus("all", False, built=True, present=3) == (0, 1, 2)
    assert choose_gpus(None, False, built=True, present=2) == (0,)
    assert choose_gpus(None, False, built=True, present=0) == ()
    assert choose_gpus(None, True, built=True, present=2) == ()
    for gpu, cpu, present, message in (
        ("5", False, 2, "there is no GPU 5 here: valid ids are 0 to 1"),
        ("0", False, 0, "no GPU answers"),
        ("x", False, 1, "give ids separated by commas"),
        ("0,0", False, 1, "twice"),
        ("0", True, 1, "exclude each other"),
    ):
        with pytest.raises(InputError, match=message):
            choose_gpus(gpu, cpu, built=True, present=present)


def test_an_unwritable_logs_folder(bench: Any) -> None:
    (bench.folder / "file").write_text("")
    assert "cannot write to the logs folder file/logs: Not a directory; choose another with --logs DIR" in (
        refusal(bench, bench.solver(), "--logs", "file/logs")
    )
    assert "cannot write to the snapshots folder /proc/snapshots" in (
        refusal(bench, "small.prototxt", "--snapshots", "/proc/snapshots")
    )


def test_no_jobs(bench: Any) -> None:
    assert "--jobs 0: at least one run" in refusal(bench, bench.solver(), "--jobs", 0)


def test_the_same_run_given_twice(bench: Any) -> None:
    (bench.folder / "other").mkdir()
    (bench.folder / "other/small.prototxt").write_text((bench.folder / bench.solver()).read_text())
    line = refusal(bench, "small.prototxt", "other/small.prototxt")
    assert "small.prototxt and other/small.prototxt are both the run small" in line
    assert not (bench.folder / "logs").exists()


def test_two_launchers_on_one_run(bench: Any) -> None:
    solver = bench.solver(max_iter=100000)
    first = bench.start(solver)
    bench.wait_for("Iteration 20 ")
    line = refusal(bench, solver)
    assert f"small is already being trained into snapshots by process {first.pid} on" in line
    assert first.poll() is None


HOLDER = """
import fcntl, sys, time
with open(sys.argv[1], "w") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print(sys.argv[2], file=file, flush=True)
    print("held", flush=True)
    time.sleep(float(sys.argv[3]))
"""


@pytest.mark.slow
def test_the_child_of_a_killed_launcher_is_waited_for(tmp_path: Path) -> None:
    """It holds the lock that its launcher wrote its name into, until the kernel is done with it."""
    paths = RunPaths("x", tmp_path, tmp_path)
    dead = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, check=True).stdout.strip()
    for holder, waits in ((f"process {dead} on {os.uname().nodename}", True), ("process 1 on elsewhere", False)):
        command = [sys.executable, "-c", HOLDER, tmp_path / ".x.lock", holder, "1.5"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            if waits:
                with paths.locked():
                    assert process.wait() == 0
            else:
                with pytest.raises(InputError, match="by process 1 on elsewhere"), paths.locked():
                    pass


def test_no_max_iter(bench: Any) -> None:
    solver = bench.solver()
    path = bench.folder / solver
    path.write_text(path.read_text().replace("max_iter: 400\n", ""))
    assert "has no max_iter above 0" in refusal(bench, solver)
    assert "done at iteration 5" in bench.run(solver, "--max-iter", 5)


def cpu_seconds_of_children() -> float:
    """Of those that have ended: what a command took, however busy the machine is."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("loader: {workers: 0}", "loader.workers: Input should be greater than or equal to 1"),
        ("loader: {workers: 9999}", "loader.workers: Input should be less than or equal to"),
        ("loader: 4", "loader: Input should be a valid dictionary"),
        ("seed: yes", "seed: Input should be a valid integer"),
        ("seed: 4294967295", "seed: Input should be less than or equal to 2147483647"),
        ("lr_schedule: {policy: cosine, warmup: 999}", "warmup must be below max_iter (400)"),
        ("phases: [{until: 9, batch: 3}]", "unknown key 'phases.0.batch': did you mean 'batch_size'?"),
        ("phases: [{until: 9}, {until: 8}]", "phase 2 ends at 8, before the phase ahead of it"),
        ("init: lsvu", "init: Input should be 'lsuv', 'ortho', 'ortho-lsuv' or 'none'"),
        ("seed: !!bool maybe", "the tag tag:yaml.org,2002:bool: leave it out"),
        ("label: !!timestamp x", "the tag tag:yaml.org,2002:timestamp: leave it out"),
        ("label: &a x\n# caffebench: comment: *a", "the alias *a"),
    ],
)
def test_a_header_that_asks_for_the_impossible(bench: Any, line: str, message: str) -> None:
    """Whatever a stranger's header holds: refused within a second or so of computing, with file and line."""
    path = bench.folder / bench.solver()
    text = path.read_text().replace("# caffebench: init: none\n", "")
    path.write_text(f"\n# caffebench: {line}\n{text}")
    begun = cpu_seconds_of_children()
    said = refusal(bench, "small.prototxt")
    assert message in said
    assert re.search(r"small\.prototxt:[1-5]: ", said), said
    assert cpu_seconds_of_children() - begun < 5


@pytest.mark.parametrize("kind", ["device", "pipe", "folder", "large", "binary", "deep"])
def test_a_net_that_is_no_text_file(bench: Any, kind: str) -> None:
    """A net's file, a mean or a list of images that is a device would be read for ever."""
    net = bench.folder / "net.prototxt"
    if kind == "pipe":
        os.mkfifo(net)
    elif kind == "folder":
        net.mkdir()
    elif kind == "large":
        with net.open("wb") as file:
            file.truncate(257 << 20)
    elif kind == "binary":
        net.write_bytes(b"name: \0")
    elif kind == "deep":
        net.write_text("layer { inner " + "{ a " * 5000 + "}" * 5001)
    name = "/dev/zero" if kind == "device" else net.name
    (bench.folder / "small.prototxt").write_text(f'net: "{name}"\nbase_lr: 0.1\nmax_iter: 5\nlr_policy: "fixed"\n')
    said = refusal(bench, "small.prototxt")
    expected = {
        "pipe": "is a named pipe",
        "device": "/dev/zero is a device",
        "folder": "is a folder",
        "large": "269 MB",
    }
    assert expected.get(kind, name) in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("mean_value: 78 scale", 'mean_file: "/dev/zero" scale'),
        ('type: "SoftmaxWithLoss"', 'type: "InfogainLoss" infogain_loss_param { source: "/dev/zero" }'),
    ],
)
def test_another_file_that_is_none(bench: Any, old: str, new: str) -> None:
    path = bench.folder / bench.solver()
    path.write_text(path.read_text().replace(old, new))
    assert "names /dev/zero, which is not a regular file: name a file" in refusal(bench, "small.prototxt")


def test_time_limits(bench: Any) -> None:
    assert "write a time such as 8h" in refusal(bench, bench.solver(), "--time-limit", "soon")
    assert "no time to train" in refusal(bench, bench.solver(), "--time-limit", "0s")


def test_the_snapshot_of_another_network(bench: Any) -> None:
    bench.run(bench.solver(max_iter=100))
    line = bench.run(bench.solver(max_iter=200, width=9), code=2).splitlines()[-1]
    assert "small_iter_100.caffemodel is of another network: its layer conv1 has shapes 8x1x3x3" in line
    assert "--fresh" in line
    assert (bench.folder / "snapshots/small_iter_100.solverstate").is_file()


def test_weights_that_are_none(bench: Any) -> None:
    assert "is to start from w.caffemodel, which is not there" in (
        refusal(bench, bench.solver(), "--weights", "w.caffemodel")
    )
    bench.run(bench.solver(max_iter=100))
    state = "snapshots/small_iter_100.solverstate"
    assert "is a solver state, not weights: give the .caffemodel beside it" in (
        refusal(bench, bench.solver("tuned"), "--weights", state)
    )
