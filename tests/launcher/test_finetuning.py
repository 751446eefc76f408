"""Beginning from what another training has left: weights, layer by layer, or a whole solver state."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from caffebench.common.events import CopiedWeights, WeightsEvent
from caffebench.engine.locate import caffe_tool
from caffebench.launcher.init.finetuning import describe_weights


def renamed(bench: Any, name: str, **values: object) -> Path:
    """The small solver with a classifier of another name, for other classes."""
    path: Path = bench.solver(name, **values)
    text = (bench.folder / path).read_text()
    layer = 'name: "fc2" type: "InnerProduct" bottom: "fc1" top: "fc2"'
    text = text.replace(layer, layer.replace('name: "fc2"', 'name: "fc2_new"'))
    (bench.folder / path).write_text(text.replace("num_output: 10 ", "num_output: 12 "))
    return path


def plain_caffe(bench: Any, solver: Path, folder: str = "plain") -> None:
    """Train with ``caffe train``; its snapshots go to ``folder``."""
    (bench.folder / folder).mkdir()
    path = bench.folder / f"{folder}.prototxt"
    path.write_text((bench.folder / solver).read_text().replace("snapshots/small", f"{folder}/small"))
    subprocess.run([caffe_tool(), "train", "-solver", path], cwd=bench.folder, capture_output=True, check=True)


def test_the_layers_that_weights_go_to_are_named(bench: Any) -> None:
    plain_caffe(bench, bench.solver(max_iter=20))
    error = bench.run(renamed(bench, "tuned", max_iter=20), "--weights", "plain/small_iter_20.caffemodel")
    assert (
        "tuned: weights of plain/small_iter_20.caffemodel: copied 4 layers (conv1, bn1, scale1, fc1); left out 1 layer "
        "(fc2), of which this net has no layer; left at their start 1 layer (fc2_new), which no file has" in error
    )
    (event,) = re.findall(r"caffebench: weights (\{.*\})$", bench.log(run="tuned"), re.MULTILINE)
    assert json.loads(event) == {
        "files": [
            {
                "file": "plain/small_iter_20.caffemodel",
                "copied": ["conv1", "bn1", "scale1", "fc1"],
                "left_out": ["fc2"],
            }
        ],
        "at_start": ["fc2_new"],
    }


def test_long_lists_are_cut() -> None:
    layers = tuple(f"conv{n}" for n in range(50))
    event = WeightsEvent((CopiedWeights("a", layers, ()),), ())
    assert describe_weights(event) == ["weights of a: copied 50 layers (conv0, conv1, conv2, conv3, conv4, conv5, ...)"]


def test_from_a_solver_state_of_plain_caffe(bench: Any) -> None:
    plain_caffe(bench, bench.solver(max_iter=100))
    error = bench.run(bench.solver("mine", max_iter=150), "--snapshot", "plain/small_iter_100.solverstate")
    assert "mine: begins at iteration 100, from plain/small_iter_100.solverstate" in error
    assert "mine: done at iteration 150" in error
    assert re.findall(r"Iteration (\d+) \(.*loss = ", bench.log(run="mine"))[:2] == ["100", "120"]
    # the same command resumes from its own snapshots, and knows when it is done
    command = ("mine.prototxt", "--snapshot", "plain/small_iter_100.solverstate")
    assert "it was finished before" in bench.run(*command)
    (bench.folder / "logs/mine.001.log").unlink()
    assert "mine: it has snapshots of its own and resumes from those" in bench.run(*command)


def test_from_another_run_with_all_that_it_knew(bench: Any) -> None:
    """Seed, place in the data and random streams go along: the weights are those of the run that went on."""
    bench.run(bench.solver(max_iter=100))
    bench.run(bench.solver("other", max_iter=200), "--snapshot", "snapshots/small_iter_100.solverstate")
    bench.run(bench.solver(max_iter=200))
    assert bench.weights(200, run="other") == bench.weights(200)


def test_a_snapshot_that_cannot_be_begun_from(bench: Any) -> None:
    bench.run(bench.solver(max_iter=100))
    state, model = (bench.folder / f"snapshots/small_iter_100.{end}" for end in ("solverstate", "caffemodel"))
    shutil.copy(state, bench.folder / "alone.solverstate")
    (bench.folder / "cut.solverstate").write_bytes(state.read_bytes()[:999])
    shutil.copy(model, bench.folder / "cut.caffemodel")
    bench.solver("other", max_iter=200)

    def line(*options: object) -> str:
        return str(bench.run("other.prototxt", "--snapshot", *options, code=2).splitlines()[-1])

    assert "--snapshot nothing: there is no such file" in line("nothing")
    assert "cut.solverstate" in line("cut.solverstate")
    assert "is no solver state of Caffe's, or cut off: name a .solverstate (weights alone go to --weights" in line(
        model
    )
    assert "is of iteration 100, and other.prototxt ends at 50" in line(state, "--max-iter", 50)
    assert "exclude each other" in line(state, "--weights", model)
    # weights that lie where the state says are found there
    assert "begins at iteration 100" in bench.run("other.prototxt", "--snapshot", "alone.solverstate")


def test_a_refused_snapshot_is_not_in_the_way_of_the_right_one(bench: Any) -> None:
    """Refused in the training process, for its net, or before that, for its solver."""
    bench.run(bench.solver("wide", width=16, max_iter=40, snapshot=20))
    bench.run(bench.solver("adam", extra='type: "Adam" momentum2: 0.999', max_iter=40, snapshot=20))
    bench.run(bench.solver("right", max_iter=20, snapshot=20))
    solver = bench.solver("mine", max_iter=60)
    for given, what in (
        ("snapshots/wide_iter_40.caffemodel", "8; name a snapshot of this one"),
        ("snapshots/adam_iter_40.caffemodel", "--weights snapshots/adam_iter_40.caffemodel"),
    ):
        line = bench.run(solver, "--snapshot", given.replace("caffemodel", "solverstate"), code=2).splitlines()[-1]
        assert what in line
        assert given in line
        assert not list((bench.folder / "snapshots").glob("mine*"))
    said = bench.run(solver, "--snapshot", "snapshots/right_iter_20.solverstate")
    assert "mine: begins at iteration 20, from snapshots/right_iter_20.solverstate" in said
    # once it has trained, its own snapshots stay, whatever is refused
    assert "finished at iteration 60" in bench.run(
        bench.solver("mine", width=16, max_iter=60), "--snapshot", "snapshots/right_iter_20.solverstate", code=2
    )
    assert (bench.folder / "snapshots/mine_iter_60.caffemodel").is_file()


def test_weights_in_hdf5_are_refused_for_what_they_are(bench: Any) -> None:
    """Caffe takes them; which layers are in them is not known here. The way out that is named is one."""
    plain_caffe(bench, bench.solver(max_iter=20, extra="snapshot_format: HDF5"))
    given = "plain/small_iter_20.caffemodel.h5"
    for arguments in (
        (bench.solver("mine", max_iter=20), "--weights", given),
        (bench.solver("mine", max_iter=20, extra=f'weights: "{given}"'),),
    ):
        line = bench.run(*arguments, code=2).splitlines()[-1]
        assert f"{given} is in HDF5, which run-caffe cannot read: in Python, net = caffe.Net(NET, caffe.TEST)" in line
    net = (bench.folder / "mine.prototxt").read_text().partition("net_param {")[2].partition("test_iter")[0]
    (bench.folder / "net.prototxt").write_text(net.rstrip().removesuffix("}"))
    steps = f"net = caffe.Net('net.prototxt', caffe.TEST); net.copy_from('{given}'); net.save('w.caffemodel')"
    command = [
        sys.executable,
        "-c",
        f"from caffebench.engine.pycaffe import import_caffe; caffe = import_caffe(); {steps}",
    ]
    subprocess.run(command, cwd=bench.folder, capture_output=True, check=True)
    assert "copied 5 layers" in bench.run(bench.solver("mine", max_iter=20), "--weights", "w.caffemodel")
