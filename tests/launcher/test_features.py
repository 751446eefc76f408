"""What the sweeps need beyond Caffe: weights, schedules, phases, data-loading workers, determinism."""

from __future__ import annotations

import math
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffebench.analysis import read_runs
from caffebench.common.errors import InputError
from caffebench.engine.locate import caffe_pb2
from caffebench.engine.pycaffe import import_caffe
from caffebench.launcher.data.batches import BatchMaker, BatchRecipe
from caffebench.launcher.solver.schedule import Phase, learning_rate, parse_phases


def with_header(bench: Any, *lines: str, **values: object) -> Path:
    """The small solver with more header lines."""
    solver: Path = bench.solver(**values)
    path = bench.folder / solver
    path.write_text("".join(f"# caffebench: {line}\n" for line in lines) + path.read_text())
    return solver


def rates(log: str) -> dict[int, float]:
    """Caffe's own lines on the learning rate."""
    return {int(n): float(lr) for n, lr in re.findall(r"sgd_solver.cpp.* Iteration (\d+), lr = (\S+)", log)}


def weights(path: Path) -> dict[str, list[np.ndarray[Any, Any]]]:
    net = caffe_pb2().NetParameter.FromString(path.read_bytes())
    return {layer.name: [np.asarray(blob.data) for blob in layer.blobs] for layer in net.layer if layer.blobs}


def assert_equal_weights(bench: Any, iteration: int, other: str) -> None:
    """Two final models have the same weights to the bit; their layer parameters may differ."""
    first, second = (
        weights(bench.folder / folder / f"small_iter_{iteration}.caffemodel") for folder in ("snapshots", other)
    )
    assert first.keys() == second.keys()
    for name, blobs in first.items():
        for one, two in zip(blobs, second[name], strict=True):
            np.testing.assert_array_equal(one, two)


def test_weights_to_start_from(bench: Any) -> None:
    bench.run(bench.solver(max_iter=100))
    source = bench.folder / "snapshots/small_iter_100.caffemodel"
    tuned = with_header(bench, f"weights: {source.relative_to(bench.folder)}", max_iter=1, base_lr=0)
    tuned = (bench.folder / tuned).rename(bench.folder / "tuned.prototxt")
    bench.run(tuned.name)
    for name, blobs in weights(bench.folder / "snapshots/tuned_iter_1.caffemodel").items():
        if name != "bn1":  # its statistics are kept
            for old, new in zip(weights(source)[name], blobs, strict=True):
                np.testing.assert_array_equal(old, new)
    assert "Finetuning from snapshots/small_iter_100.caffemodel" in bench.log(run="tuned")
    assert "exclude each other" in bench.run("tuned.prototxt", "--weights", source, "--init", "lsuv", code=2)


def test_cosine() -> None:
    rate = learning_rate({"lr_schedule": {"policy": "cosine", "warmup": 10, "min_lr": 0.01}}, 0.1, 110)
    assert rate is not None
    assert [rate(n) for n in (0, 4, 9, 10, 60, 110)] == pytest.approx([0.01, 0.05, 0.1, 0.1, 0.055, 0.01])
    assert learning_rate({}, 0.1, 100) is None
    for bad in ({"policy": "linear"}, {"policy": "cosine", "warmup": 100}, {"policy": "cosine", "warm": 1}, "cosine"):
        with pytest.raises(InputError, match="lr_schedule"):
            learning_rate({"lr_schedule": bad}, 0.1, 100)


def test_cosine_is_in_the_log_and_goes_on_after_a_resume(bench: Any) -> None:
    header = "lr_schedule: {policy: cosine, warmup: 40, min_lr: 0.001}"
    expected = learning_rate({"lr_schedule": {"policy": "cosine", "warmup": 40, "min_lr": 0.001}}, 0.01, 2000)
    assert expected is not None
    solver = with_header(bench, header, max_iter=2000, snapshot=200, lr_policy="fixed")
    launcher = bench.start(solver)
    bench.wait_for("Iteration 860 ")
    launcher.send_signal(signal.SIGKILL)
    launcher.wait()
    bench.run(solver)
    found = rates(bench.log(1)) | rates(bench.log(2))
    assert sorted(found) == list(range(0, 2000, 20))
    for iteration, rate in found.items():
        assert math.isclose(rate, expected(iteration), rel_tol=1e-4)


def test_phases() -> None:
    header = {"phases": [{"until": 100, "batch_size": 32}, {"until": 200, "batch_size": 64, "base_lr": 0.1}]}
    assert parse_phases(header, 200)[1] == Phase(200, 64, None, 0.1)
    assert parse_phases(header, 300)[1].until == 300
    assert parse_phases({}, 300) == [Phase(300)]
    for bad in (
        [{"batch_size": 3}],
        [{"until": 5, "batch": 3}],
        [{"until": 5, "batch_size": 0}],
        [{"until": 5}, {"until": 5}],
    ):
        with pytest.raises(InputError, match="phase"):
            parse_phases({"phases": bad}, 10)


PHASES = (
    "phases: [{until: 500, batch_size: 32}, {until: 1500, batch_size: 64, base_lr: 0.02}, "
    "{until: 2000, batch_size: 96, iter_size: 2}]"
)


def test_phases_hand_weights_and_momentum_on(bench: Any) -> None:
    solver = with_header(bench, PHASES, max_iter=2000, snapshot=400, init="lsuv")
    bench.run(solver, "--snapshots", "whole", "--logs", "whole")
    log = (bench.folder / "whole/small.001.log").read_text()
    starts = log.split("Initializing solver from parameters")[1:]
    assert [re.findall(r"batch_size: (\d+)", start)[0] for start in starts] == ["32", "64", "96"]
    assert sorted(rates(log)) == list(range(0, 2000, 20))
    assert rates(log)[480] == pytest.approx(0.01)
    assert rates(log)[500] == pytest.approx(0.002), "step at 500, from the phase's own base_lr"
    assert log.count("Optimization Done.") == 2, "only at the end, there once from Solve and once as the tool does"
    # killed in the second phase, and so resumed in it: the same to the bit
    launcher = bench.start(solver)
    bench.wait_for("Iteration 1340 ")
    launcher.send_signal(signal.SIGKILL)
    launcher.wait()
    bench.run(solver)
    assert bench.weights(2000) == bench.weights(2000, snapshots="whole")


def test_epochs_of_phases_are_of_what_each_leaves_as_it_was(bench: Any) -> None:
    phases = "[{until: 20, batch_size: 16}, {until: 40, iter_size: 1}, {until: 60, base_lr: 0.001}]"
    solver = with_header(bench, f"phases: {phases}", max_iter=80)
    path = bench.folder / solver
    path.write_text(path.read_text().replace("max_iter", "iter_size: 2\nmax_iter", 1))
    bench.run(solver)
    (run,) = read_runs([bench.folder / "logs"])
    seen = {at: epochs * 1437 for at, epochs in run.curve("loss", "train").select("iteration", "epoch").rows()}
    assert {at: round(seen[at]) for at in (20, 40, 60)} == {20: 640, 40: 1280, 60: 2560}
    assert run.epochs == pytest.approx((2560 + 20 * 64) / 1437, abs=1e-6)


SHARED = """
layer {{ name: "data" type: "Data" top: "data" top: "label" {rule} transform_param {{ mean_value: 78 crop_size: 6 }}
        data_param {{ source: "{data}/digits/test_lmdb" backend: LMDB batch_size: 60 }} }}
layer {{ name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param {{ num_output: 10
        weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }}
layer {{ name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "accuracy" include {{ phase: TEST }} }}
"""


@pytest.mark.parametrize("rule", ["", 'exclude { stage: "deploy" }'], ids=["no rule", "a rule"])
@pytest.mark.parametrize("header", ["loader: {workers: 2}", "phases: [{until: 20}, {until: 40, batch_size: 8}]"])
def test_what_is_for_training_leaves_tests_alone_that_read_the_same_layer(bench: Any, header: str, rule: str) -> None:
    caffe = import_caffe()
    net = bench.folder / "net.prototxt"
    net.write_text(SHARED.format(rule=rule, data=bench.folder / "data"))
    (bench.folder / "small.prototxt").write_text(
        f'# caffebench: {header}\nnet: "net.prototxt" test_iter: 6 test_interval: 40 base_lr: 0.001 '
        'lr_policy: "fixed" max_iter: 40 display: 20 random_seed: 3\n'
    )
    bench.run("small.prototxt")
    tested = caffe.Net(str(net), caffe.TEST, weights=str(bench.folder / "snapshots/small_iter_40.caffemodel"))
    expected = np.mean([float(tested.forward()["accuracy"]) for _ in range(6)])
    said = re.findall(r"Test net output #0: accuracy = (\S+)", bench.log())
    assert float(said[-1]) == pytest.approx(expected, abs=1e-4)
    (run,) = read_runs([bench.folder / "logs"])
    assert run.epochs == pytest.approx((40 * 60 if "loader" in header else 20 * 8 + 20 * 60) / 360)


def test_loading_workers_of_two_layers_of_one_name(bench: Any) -> None:
    """Caffe lets names recur; the layers are told apart by what they make."""
    second = """
  layer {
    name: "data" type: "Data" top: "other" top: "other_label" include { phase: TRAIN }
    data_param { source: "data/digits/test_lmdb" backend: LMDB batch_size: 10 }
  }
  layer { name: "silence" type: "Silence" bottom: "other" bottom: "other_label" include { phase: TRAIN } }
  layer {
    name: "conv1\""""
    common = {"max_iter": 20, "mirror": "false", "init": "ortho"}
    for folder, header in (("plain", ()), ("snapshots", ("loader: {workers: 2}",))):
        path = bench.folder / with_header(bench, *header, **common)
        path.write_text(path.read_text().replace('\n  layer {\n    name: "conv1"', second))
        bench.run(path.name, "--snapshots", folder, "--logs", folder)
    assert_equal_weights(bench, 20, "plain")


LMDB = 'data_param { source: "data/digits/train_lmdb" backend: LMDB batch_size: %d } }'
HDF5 = 'layer { name: "h" type: "HDF5Data" top: "h" hdf5_data_param { source: "list" batch_size: 8 } }'
DUMMY = 'layer { name: "d" type: "DummyData" top: "d" dummy_data_param { shape { dim: 8 } } }'
IMAGES = f'layer {{ name: "i" type: "Data" top: "i" {LMDB % 8}'
FEW = f'layer {{ name: "f" type: "Data" top: "f" {LMDB % 4}'
COLOUR = f'layer {{ name: "i" type: "Data" top: "i" transform_param {{ force_color: true }} {LMDB % 8}'
IN_PHASES = "phases: [{until: 5, iter_size: 2}, {until: 10, batch_size: 16}]"
LOADER = "loader: {workers: 2}"


@pytest.mark.parametrize(
    ("header", "layers", "message"),
    [
        (IN_PHASES, HDF5, "only Data layers take one: h (HDF5Data) would go on with its own"),
        (IN_PHASES, IMAGES + HDF5, "only Data layers take one: h (HDF5Data) would go on with its own"),
        (IN_PHASES, DUMMY, "the train net has no Data layer to take it"),
        (IN_PHASES, IMAGES + FEW, "the train net has several: i reads 8 images, f 4"),
        (LOADER, HDF5, "loading workers read LMDBs for Data layers, and the train net has none"),
        (LOADER, COLOUR, "loading workers know no force_color, which i has"),
    ],
)
def test_what_the_header_asks_of_data_that_cannot_do_it(bench: Any, header: str, layers: str, message: str) -> None:
    (bench.folder / "list").write_text("h5\n")
    (bench.folder / "small.prototxt").write_text(
        f'# caffebench: {header}\nnet_param {{ {layers} }} base_lr: 1 lr_policy: "fixed" max_iter: 10 display: 1\n'
    )
    line = bench.run("small.prototxt", code=2).splitlines()[-1]
    assert line.startswith("run-caffe: small.prototxt:1: ")
    assert message in line


@pytest.mark.parametrize("workers", [1, 3])
def test_loading_workers_give_what_caffes_own_layer_gives(bench: Any, workers: int) -> None:
    """Without random transformations: the same records in the same order, so the same weights to the bit."""
    common = {"max_iter": 300, "mirror": "false", "init": "ortho"}
    bench.run(bench.solver(**common), "--snapshots", "plain", "--logs", "plain")
    bench.run(with_header(bench, f"loader: {{workers: {workers}}}", **common))
    assert 'type: "Python"' in bench.log()
    assert_equal_weights(bench, 300, "plain")


def test_loading_workers_resume_to_the_bit_and_leave_no_process(bench: Any, alive: Any) -> None:
    solver = with_header(bench, "loader: {workers: 2}", max_iter=2000, snapshot=200, init="lsuv")
    bench.run(solver, "--snapshots", "whole", "--logs", "whole")
    launcher = bench.start(solver)
    bench.wait_for("Iteration 920 ")
    pid = bench.worker()
    pids = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    assert len(pids) == 2
    launcher.send_signal(signal.SIGKILL)
    launcher.wait()
    path = bench.folder / solver
    path.write_text(path.read_text().replace("workers: 2", "workers: 3"))
    bench.run(solver)
    assert bench.weights(2000) == bench.weights(2000, snapshots="whole"), "the same file, to the byte"
    assert not any(map(alive, pids))


@pytest.mark.caffe
def test_batches(digits_root: Path) -> None:
    source = str(digits_root / "digits" / "train_lmdb")
    recipe = BatchRecipe(source, batch_size=100, crop_size=6, mirror=True, scale=0.5, mean_values=(78,), seed=3)

    def batch(number: int, recipe: BatchRecipe = recipe) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        maker = BatchMaker(recipe)
        data, labels = np.zeros(maker.shape, np.float32), np.zeros(100, np.float32)
        maker.make(number, data, labels)
        maker.close()
        return data, labels

    whole = BatchRecipe(source, batch_size=100, random_crop=False)
    maker = BatchMaker(whole)
    assert maker.shape == (100, 1, 8, 8)
    plain = {number: (np.zeros(maker.shape, np.float32), np.zeros(100, np.float32)) for number in (14, 15, 0, 3)}
    for number, (data, labels) in plain.items():  # 14 goes over the end, at record 1,437
        maker.make(number, data, labels)
    maker.close()
    for number, (data, labels) in plain.items():
        crops, crop_labels = batch(number)
        np.testing.assert_array_equal(labels, crop_labels)
        np.testing.assert_array_equal(crops, batch(number)[0])
        for image, crop in zip((data - 78) * 0.5, crops, strict=True):
            places = [image[:, y : y + 6, x : x + 6] for y in range(3) for x in range(3)]
            assert any(np.array_equal(crop, place) or np.array_equal(crop, place[:, :, ::-1]) for place in places)
    first, second = batch(0)[0], batch(0, BatchRecipe(**{**vars(recipe), "seed": 4}))[0]
    assert not np.array_equal(first, second)


def test_deterministic_runs_are_alike_and_free_ones_are_not(bench: Any) -> None:
    def final(folder: str, *lines: str) -> bytes:
        path = bench.folder / with_header(bench, *lines, max_iter=200)
        path.write_text(path.read_text().replace("random_seed: 7\n", ""))
        bench.run("small.prototxt", "--snapshots", folder, "--logs", folder)
        return bytes(bench.weights(200, snapshots=folder))

    assert final("a", "deterministic: true") == final("b", "deterministic: true")
    assert final("c", "deterministic: false") != final("d", "deterministic: false")
