"""Training steps on the CPU: the fast layers, Caffe's own and PyTorch on the same nets and the same pictures.

    python benchmarks/bench_engine.py [caffenet] [fashion] [googlenet] [mobilenet]

Nets are the generator's own. A step is a batch of real pictures (crops of scikit-learn's photographs) copied in,
forward, backward and the update, in float. Each side is a process of its own; they take turns, and the fastest step of
each counts. Wanted: the fast layers at least at PyTorch's pace and 1.6 times that of Caffe's own, on one core and on
all. PyTorch is Debian's (python3-torch), for Debian's own Python; without it, only Caffe's two sides are measured. On a
busy machine only the CPU seconds of one core mean much.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SCRIPTS = Path(__file__).parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))

from acceptance.torch_layers import layers_for_torch  # noqa: E402

from caffebench.engine.blas import blas_environment  # noqa: E402
from caffebench.engine.locate import caffe_pb2  # noqa: E402

BIN = Path(sys.executable).parent
DEBIAN_PYTHON = "/usr/bin/python3"
ROUNDS, STEPS = 3, 4
CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Case:
    """A net to train: a variant of a sweep on a profile, and its batch."""

    sweep: str
    variant: str
    profile: str
    shape: tuple[int, int, int, int]


CASES = {
    "caffenet": Case("batch_size", "bs256", "imagenet128", (32, 3, 128, 128)),
    "googlenet": Case("bn_init", "googlenet", "imagenet128", (32, 3, 128, 128)),
    "mobilenet": Case("mobilenet_cifar10", "mobilenetv2_bs256", "cifar10", (64, 3, 32, 32)),
    "fashion": Case("batch_size", "bs256", "fashion", (256, 1, 28, 28)),
}


def solver_of(case: Case, folder: Path) -> Any:
    """The generated solver, as a message, with its data layers replaced by inputs of the case's shape."""
    from google.protobuf import text_format

    command = [BIN / "gen-prototxt", case.sweep, "--profile", case.profile, "--only", case.variant, "--out", folder]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr.strip())
    solver = text_format.Parse((folder / f"{case.variant}.prototxt").read_text(), caffe_pb2().SolverParameter())
    net = solver.net_param
    kept = [layer for layer in net.layer if layer.type != "Data" and not _only_in_tests(layer)]
    del net.layer[:]
    data = net.layer.add(name="data", type="Input", top=["data", "label"])
    data.input_param.shape.add(dim=case.shape)
    data.input_param.shape.add(dim=case.shape[:1])
    net.layer.extend(kept)
    solver.ClearField("test_iter")
    solver.ClearField("test_interval")
    solver.snapshot = solver.display = 0
    solver.snapshot_after_train = False
    solver.base_lr = 0.001
    return solver


def _only_in_tests(layer: Any) -> bool:
    return any(rule.HasField("phase") and rule.phase == 1 for rule in layer.include)


def pictures(shape: tuple[int, int, int, int]) -> np.ndarray:
    """Crops of real photographs, mean taken off, float32 of ``shape``."""
    from sklearn.datasets import load_sample_images

    random = np.random.default_rng(0)
    photographs = load_sample_images().images
    crops = np.empty(shape, "f4")
    for crop in crops:
        photograph = photographs[random.integers(len(photographs))].transpose(2, 0, 1)[: shape[1]]
        top, left = (random.integers(whole - part) for whole, part in zip(photograph.shape[1:], shape[2:], strict=True))
        crop[...] = photograph[:, top : top + shape[2], left : left + shape[3]]
    return (crops - crops.mean()) / 64


def caffe_steps(solver_file: str, images_file: str, layers: str, steps: int) -> None:
    """In a process of its own: train, and print the seconds of the fastest step as JSON."""
    import time

    from caffebench.engine import fast
    from caffebench.engine.pycaffe import import_caffe

    caffe = import_caffe()
    caffe.set_mode_cpu()
    if layers == "fast":
        fast.load()
    solver = caffe.get_solver(solver_file)
    images = np.load(images_file)
    wall, cpu = [], []
    for _ in range(steps):
        begun, begun_cpu = time.perf_counter(), time.process_time()
        solver.net.clear_param_diffs()
        solver.net.blobs["data"].data[...] = images
        solver.net.blobs["label"].data[...] = np.arange(len(images)) % 10
        solver.net.forward()
        solver.net.backward()
        solver.apply_update()
        wall.append(time.perf_counter() - begun)
        cpu.append(time.process_time() - begun_cpu)
    parameters = sum(blob.data.size for blobs in solver.net.params.values() for blob in blobs)
    print(json.dumps({"seconds": min(wall), "cpu_seconds": min(cpu), "parameters": parameters}))


def has_torch() -> bool:
    """Whether Debian's own Python has PyTorch."""
    if not shutil.which(DEBIAN_PYTHON):
        return False
    return subprocess.run([DEBIAN_PYTHON, "-c", "import torch"], capture_output=True).returncode == 0


def measure(name: str, folder: Path, *, torch: bool) -> None:
    """One net on one core and on all of them."""
    from google.protobuf import text_format

    case = CASES[name]
    solver = solver_of(case, folder)
    files = {kind: str(folder / kind) for kind in ("solver.prototxt", "net.json", "images.npy")}
    Path(files["solver.prototxt"]).write_text(text_format.MessageToString(solver))
    Path(files["net.json"]).write_text(json.dumps(layers_for_torch(solver.net_param)))
    np.save(files["images.npy"], pictures(case.shape))
    for cores in sorted({1, CORES}):
        environment = (
            os.environ | blas_environment() | {"OMP_NUM_THREADS": str(cores), "OPENBLAS_NUM_THREADS": str(cores)}
        )
        environment |= {"GLOG_minloglevel": "2"}
        mine = [sys.executable, str(Path(__file__)), "--side", files["solver.prototxt"], files["images.npy"]]
        sides = {one: [*mine, one, str(STEPS)] for one in ("fast", "caffe")}
        if torch:
            program = [DEBIAN_PYTHON, str(SCRIPTS / "acceptance" / "torch_net.py"), files["net.json"]]
            sides["torch"] = [*program, files["images.npy"], "cpu", "fp32", str(cores), str(STEPS)]
        best: dict[str, dict[str, float]] = {}
        for number in range(ROUNDS):
            for side in sorted(sides, reverse=bool(number % 2)):
                done = subprocess.run(sides[side], env=environment, capture_output=True, text=True)
                if done.returncode:
                    raise SystemExit(f"{' '.join(sides[side])}: {done.stderr.strip()}")
                found = json.loads(done.stdout)
                best[side] = {key: min(found[key], best.get(side, found)[key]) for key in ("seconds", "cpu_seconds")}
        shown = ", ".join(
            f"{side} {1000 * one['seconds']:.0f} ms ({1000 * one['cpu_seconds']:.0f} CPU ms)"
            for side, one in best.items()
        )
        print(f"{name}, batch {case.shape[0]}, {cores} core{'s' if cores > 1 else ''}: {shown}")
        for other, wanted in (("torch", 1.0), ("caffe", 1.6)):
            if other in best:
                wall, cpu = (best[other][key] / best["fast"][key] for key in ("seconds", "cpu_seconds"))
                print(f"    fast / {other}: {wall:.2f} times the images/s, {cpu:.2f} by CPU time (wanted {wanted})")
        sys.stdout.flush()


def main() -> None:
    """Measure the nets that were named, or all."""
    if sys.argv[1:2] == ["--side"]:
        solver_file, images_file, layers, steps = sys.argv[2:]
        caffe_steps(solver_file, images_file, layers, int(steps))
        return
    torch = has_torch()
    if not torch:
        print("without PyTorch: apt-get install python3-torch brings Debian's")
    for name in sys.argv[1:] or CASES:
        with tempfile.TemporaryDirectory() as folder:
            measure(name, Path(folder), torch=torch)


if __name__ == "__main__":
    main()
