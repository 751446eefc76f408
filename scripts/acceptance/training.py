"""Training for real, through our own commands: does the card learn what the CPU learns, stop, resume, share, refuse?"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from acceptance.layers import set_device
from acceptance.rows import Row

__all__ = [
    "cards_rows",
    "few_cards",
    "lsuv_rows",
    "prepare",
    "refusal_rows",
    "resume_rows",
    "run",
    "sharing_rows",
    "sweep_rows",
]

VARIANT = "bs64"  # the digits profile's default variant
CARDS = "0,1"
PROGRAMS = Path(sys.executable).parent


def _options(device: str) -> list[str]:
    # Against Caffe's own layers: over hundreds of iterations the last digits of others grow to the first.
    return ["--cpu", "--layers", "caffe"] if device == "cpu" else ["--gpu", device.removeprefix("gpu:")]


def run(folder: Path, *command: str, expect: Sequence[int] = (0,)) -> subprocess.CompletedProcess[str]:
    """Run one of our commands; ``RuntimeError`` with its last line where its exit code is not expected."""
    program = [str(PROGRAMS / command[0]), *command[1:]]
    done = subprocess.run(program, cwd=folder, capture_output=True, text=True)
    if done.returncode not in expect:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}: {last}")
    return done


def prepare(folder: Path) -> None:
    """The digits data and the sweep on it, once for all checks; what is there already has travelled with us."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "data" / "digits").exists():
        run(folder, "make-lmdb", "digits", "data/digits")
    if not (folder / "prototxt").exists():
        run(folder, "gen-prototxt", "batch_size", "--profile", "digits")


def _train(folder: Path, device: str, out: str, variants: Sequence[str], *more: str) -> float:
    """Train and return the seconds that the whole command took."""
    begun = time.monotonic()
    files = [f"prototxt/{variant}.prototxt" for variant in variants]
    where = ["--logs", f"{out}/logs", "--snapshots", f"{out}/snapshots", "--seed", "1"]
    run(folder, "run-caffe", *files, *_options(device), *where, *more)
    return time.monotonic() - begun


@dataclass(frozen=True)
class _End:
    """How a run ended, by its logs."""

    status: str
    accuracy: float
    sessions: int


def _end(folder: Path, out: str, variant: str) -> _End:
    from caffebench.launcher.show.logtail import LogTail

    logs = sorted((folder / out / "logs").glob(f"{variant}.[0-9]*.log"))
    tail = LogTail.of_file(logs[-1])
    status = str(tail.events.get("end", {}).get("status", "no end"))
    return _End(status, float("nan") if tail.accuracy is None else tail.accuracy, len(logs))


def _weights(folder: Path, out: str, variant: str) -> list[np.ndarray]:
    """The weights of the last snapshot, layer by layer."""
    from caffebench.engine.locate import caffe_pb2

    files = (folder / out / "snapshots").glob(f"{variant}_iter_*.caffemodel")
    last = max(files, key=lambda file: int(file.stem.rpartition("_")[2]))
    net = caffe_pb2().NetParameter.FromString(last.read_bytes())
    return [np.array(blob.data, dtype=np.float32) for layer in net.layer for blob in layer.blobs]


def lsuv_rows(folder: Path, reference: str, tested: str) -> Iterator[Row]:
    """The initialisation on both devices, without dropout: unit variance on each, and the same weights."""
    from google.protobuf import text_format

    from caffebench.engine.locate import caffe_pb2
    from caffebench.engine.pycaffe import import_caffe
    from caffebench.launcher.init.lsuv import initialise

    caffe = import_caffe()
    solver = caffe_pb2().SolverParameter()
    text_format.Parse((folder / f"prototxt/{VARIANT}.prototxt").read_text(), solver)
    for layer in solver.net_param.layer:
        if layer.type == "Dropout":  # each device draws masks of its own
            layer.dropout_param.dropout_ratio = 0
    file = folder / "lsuv.prototxt"
    file.write_text(text_format.MessageToString(solver.net_param))
    weights, reports = [], []
    before = Path.cwd()
    os.chdir(folder)  # the databases' paths are relative
    try:
        for device in (reference, tested):
            set_device(device)
            net = caffe.Net(file.name, caffe.TRAIN)
            reports.append([])
            initialise(net, method="lsuv", seed=1, report=reports[-1].append)
            weights.append({name: blobs[0].data.copy() for name, blobs in net.params.items()})
    finally:
        os.chdir(before)
    for here, there in zip(*reports, strict=True):
        variance = getattr(there, "variance_after", None)
        if variance is None:
            continue
        name = there.layer
        wanted, got = (one[name] for one in weights)
        error = float(np.abs(wanted - got).max() / np.abs(wanted).max())
        passed = abs(variance - 1) < 0.05 and error < 1e-3
        measured = f"variance {here.variance_after:.4f} / {variance:.4f}, weights differ {error:.1e}"
        yield Row("lsuv", name, measured, "1 +- 0.05, <= 1e-03", passed)


def sweep_rows(folder: Path, reference: str, tested: str, variants: Sequence[str]) -> Iterator[Row]:
    """The digits sweep on both devices: the same accuracy but for two points, which is what seeds make."""
    seconds = [_train(folder, device, out, variants) for device, out in ((reference, "ref"), (tested, "dut"))]
    for variant in variants:
        here, there = (_end(folder, out, variant).accuracy for out in ("ref", "dut"))
        measured = f"{there:.4f} (reference {here:.4f})"
        yield Row("sweep", f"{variant}, test accuracy", measured, ">= reference - 0.02", there >= here - 0.02)
    yield Row("sweep", f"seconds for {len(variants)} variants", f"{seconds[1]:.1f} (reference {seconds[0]:.1f})")


def resume_rows(folder: Path, device: str, check: str = "resume") -> Iterator[Row]:
    """SIGKILL after the first snapshot, the same command again: it resumes to the end, with the weights of no kill."""
    straight, cut = f"{check}-straight", f"{check}-killed"
    shorter = ["--max-iter", "640"]  # with a snapshot in the middle
    _train(folder, device, straight, [VARIANT], *shorter)
    command = [str(PROGRAMS / "run-caffe"), f"prototxt/{VARIANT}.prototxt", *_options(device), "--seed", "1", *shorter]
    command += ["--logs", f"{cut}/logs", "--snapshots", f"{cut}/snapshots", "--retries", "0"]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    killed = False
    while process.poll() is None:
        if any((folder / cut / "snapshots").glob("*.solverstate")):
            os.killpg(process.pid, signal.SIGKILL)
            killed = True
            break
        time.sleep(0.01)
    process.wait()
    _train(folder, device, cut, [VARIANT], *shorter)
    end = _end(folder, cut, VARIANT)
    yield Row(
        check,
        "killed and resumed",
        f"{end.status}, {end.sessions} sessions" + ("" if killed else ", over before it could be killed"),
        "done, 2 sessions",
        killed and (end.status, end.sessions) == ("done", 2),
    )
    pairs = zip(_weights(folder, straight, VARIANT), _weights(folder, cut, VARIANT), strict=True)
    worst = max(float(np.abs(one - other).max()) for one, other in pairs)
    yield Row(check, "final weights against no kill", f"differ by {worst:.1e}", "0 (to the bit)", worst == 0)


def sharing_rows(folder: Path, device: str, variants: Sequence[str]) -> Iterator[Row]:
    """Two runs on one device at a time, each by a command of its own, against one after the other."""
    first, second = variants[:2]
    alone = sum(_train(folder, device, "alone", [variant]) for variant in (first, second))
    with ThreadPoolExecutor() as both:
        begun = time.monotonic()
        list(both.map(lambda variant: _train(folder, device, "together", [variant]), (first, second)))
        together = time.monotonic() - begun
    status = {variant: _end(folder, "together", variant).status for variant in (first, second)}
    good = set(status.values()) == {"done"}
    yield Row("sharing", "two runs at a time", ", ".join(f"{k} {v}" for k, v in status.items()), "both done", good)
    yield Row("sharing", "seconds together, one after the other", f"{together:.1f}, {alone:.1f}")


def few_cards() -> str:
    """Why one run cannot be trained on two cards here; empty where it can."""
    from caffebench.common.errors import CaffebenchError
    from caffebench.engine.features import caffe_has_nccl
    from caffebench.launcher.gpu.devices import count_gpus

    found = count_gpus()
    why = [f"cards that answer: {found}"] if found < 2 else []
    try:
        why += [] if caffe_has_nccl() else ["this Caffe is without NCCL"]
    except CaffebenchError as error:
        why.append(str(error))
    return ", ".join(why)


def cards_rows(folder: Path, device: str) -> Iterator[Row]:
    """One run on the first two cards, through NCCL, is one on ``device`` with twice the batch; and it can be resumed.

    LSUV would measure on batches of two sizes, and the cards would draw different masks: here without both.
    """
    if why := few_cards():
        yield Row("cards", f"one run on GPUs {CARDS}", f"not measured: {why}")
        return
    text = re.sub(r"dropout_ratio: \S+", "dropout_ratio: 0", (folder / f"prototxt/{VARIANT}.prototxt").read_text())
    twice, count = re.subn(r"batch_size: 64$", "batch_size: 128", text, flags=re.MULTILINE)
    if count != 1:
        raise RuntimeError(f"{VARIANT}.prototxt has no batch of 64 to be doubled")
    runs = {"shared": (text, f"gpu:{CARDS}"), "twice": (twice, device), "half": (text, device)}
    for name, (net, where) in runs.items():
        (folder / f"prototxt/{name}.prototxt").write_text(net)
        # Not many iterations: rounding errors grow, to a fifth of a weight after 320 on a CPU.
        _train(folder, where, "cards", [name], "--init", "none", "--max-iter", "64")
    apart = {name: _apart(*(_weights(folder, "cards", one) for one in ("shared", name))) for name in ("twice", "half")}
    measured = f"differ by {apart['twice']:.1e} (from half the batch {apart['half']:.1e})"
    passed = apart["twice"] <= 1e-3 < apart["half"]
    yield Row("cards", f"GPUs {CARDS}, weights against one with twice the batch", measured, "<= 1e-03", passed)
    yield from resume_rows(folder, f"gpu:{CARDS}", "cards")


def _apart(ones: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> float:
    """The largest difference of weights, in parts of the largest weight of its blob."""
    return max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in zip(ones, others, strict=True))


def refusal_rows(folder: Path) -> Iterator[Row]:
    """A card that is not there is refused in one line with exit code 2."""
    done = run(folder, "run-caffe", f"prototxt/{VARIANT}.prototxt", "--gpu", "7", expect=range(256))
    lines = done.stderr.strip().splitlines()
    good = done.returncode == 2 and len(lines) == 1 and lines[0].startswith("run-caffe: ")
    yield Row("refusal", "run-caffe --gpu 7", f"exit {done.returncode}: {lines[-1] if lines else ''}", "exit 2", good)
