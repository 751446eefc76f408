"""LSUV on CaffeNet128 at batch 128: one plain forward pass, ours, and the published algorithm, side by side.

    python benchmarks/bench_lsuv.py [SOLVER.prototxt]     (default: prototxt/bs128.prototxt)

The published algorithm (Mishkin and Matas 2015, arXiv:1511.06422, section 3, algorithm 1): orthonormal weights by
SVD, then for each layer forward passes from the data layer, so each of them on a new batch, dividing the weights
by the standard deviation until the variance is within 0.02 of one (the authors' own margin; at most 20 tries).
The batches are scikit-learn's digits, real scans, enlarged to 128 x 128 in three colours with noise.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # one thread a run, as run-caffe packs them
os.environ.setdefault("GLOG_minloglevel", "2")

import numpy as np

ROUNDS = 4
MARGIN, MOST_TRIES = 0.02, 20


def enlarged_digits(target: Path, count: int = 512) -> None:
    """Write an LMDB of ``count`` records of 3 x 128 x 128."""
    import lmdb

    from caffebench.datasets.datum import raw_record
    from caffebench.datasets.digits import load_digits

    images, labels = load_digits()["train"]
    generator = np.random.default_rng(0)
    with lmdb.open(str(target), map_size=1 << 30) as environment, environment.begin(write=True) as records:
        for i in range(count):
            large = np.kron(images[i, 0], np.ones((16, 16))) * generator.uniform(0.3, 1, (3, 1, 1))
            noisy = np.clip(large + generator.normal(0, 20, large.shape), 0, 255).astype(np.uint8)
            records.put(b"%08d" % i, raw_record(noisy, int(labels[i])).data)


def training_net(solver: Path, folder: Path) -> Any:
    """The training net of a solver file, on the enlarged digits."""
    import caffe
    from google.protobuf import text_format

    from caffebench.engine.locate import caffe_pb2

    parameters = caffe_pb2().SolverParameter()
    text_format.Parse(solver.read_text(), parameters)
    for layer in parameters.net_param.layer:
        if layer.type == "Data":
            layer.data_param.source = str(folder / "lmdb")
            layer.data_param.batch_size = 128
            layer.transform_param.ClearField("force_color")  # Caffe complains of it at every record that is not encoded
    (folder / "net.prototxt").write_text(text_format.MessageToString(parameters.net_param))
    return caffe.Net(str(folder / "net.prototxt"), caffe.TRAIN)


def published_algorithm(net: Any) -> int:
    """Initialise as published; how many forward passes, whole or partial, it took."""
    from caffebench.launcher.init.lsuv import LINEAR

    passes = 0
    generator = np.random.default_rng(0)
    for name, kind in zip(net._layer_names, (layer.type for layer in net.layers), strict=True):
        if kind not in LINEAR:
            continue
        weight = net.params[name][0]
        shape = weight.data.shape
        left, _, right = np.linalg.svd(generator.standard_normal((shape[0], weight.count // shape[0])), False)
        weight.data[...] = (left if left.shape == (shape[0], weight.count // shape[0]) else right).reshape(shape)
        for _ in range(MOST_TRIES + 1):
            net.forward(end=name)
            passes += 1
            variance = np.var(net.blobs[net.top_names[name][0]].data)
            if abs(variance - 1) <= MARGIN:
                break
            weight.data[...] /= np.sqrt(variance)
    return passes


def seconds(work: Callable[[], Any]) -> float:
    """How long ``work`` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Measure in turns and print the best of each: what else the machine does can only make a turn slower."""
    solver = Path(sys.argv[1] if len(sys.argv) > 1 else "prototxt/bs128.prototxt")
    from caffebench.launcher.init.lsuv import initialise

    with tempfile.TemporaryDirectory() as folder:
        enlarged_digits(Path(folder) / "lmdb")
        net = training_net(solver, Path(folder))
        net.forward()
        passes: list[int] = []
        plain, ours, published = [], [], []
        for round_ in range(ROUNDS):
            plain += [seconds(net.forward) for _ in range(3)]
            ours.append(seconds(lambda seed=round_: initialise(net, method="lsuv", seed=seed)))  # type: ignore[misc]
            published.append(seconds(lambda: passes.append(published_algorithm(net))))
    base, fast, slow = min(plain), min(ours), min(published)
    print(f"LSUV on {solver.name}, batch 128, best of {ROUNDS} turns")
    print(f"  one plain forward pass   {base:6.2f} s")
    print(f"  caffebench               {fast:6.2f} s   {fast / base:4.2f} forward passes (wanted: under 2.5)")
    print(f"  the published algorithm  {slow:6.2f} s   {min(passes)} to {max(passes)} partial forward passes")
    print(f"  caffebench is {slow / fast:.1f} times faster (wanted: at least 8)")


if __name__ == "__main__":
    main()
