"""A small real net on the digits, and a way to run the command as a user does."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOLVER = """\
# caffebench: variant: small
# caffebench: init: {init}
# caffebench: profile: digits
net_param {{
  name: "small"
  layer {{
    name: "data" type: "Data" top: "data" top: "label" include {{ phase: TRAIN }}
    transform_param {{ mirror: {mirror} mean_value: 78 scale: 0.02 }}
    data_param {{ source: "data/digits/train_lmdb" backend: LMDB batch_size: {batch} }}
  }}
  layer {{
    name: "data" type: "Data" top: "data" top: "label" include {{ phase: TEST }}
    transform_param {{ mean_value: 78 scale: 0.02 }}
    data_param {{ source: "data/digits/test_lmdb" backend: LMDB batch_size: 50 }}
  }}
  layer {{
    name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
    convolution_param {{ num_output: {width} kernel_size: 3 weight_filler {{ type: "msra" }} }}
  }}
  layer {{ name: "bn1" type: "BatchNorm" bottom: "conv1" top: "conv1" }}
  layer {{ name: "scale1" type: "Scale" bottom: "conv1" top: "conv1" scale_param {{ bias_term: true }} }}
  layer {{ name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }}
  layer {{
    name: "fc1" type: "InnerProduct" bottom: "conv1" top: "fc1"
    inner_product_param {{ num_output: 32 weight_filler {{ type: "msra" }} }}
  }}
  layer {{ name: "relu2" type: "ReLU" bottom: "fc1" top: "fc1" }}
  layer {{ name: "drop" type: "Dropout" bottom: "fc1" top: "fc1" dropout_param {{ dropout_ratio: 0.3 }} }}
  layer {{
    name: "fc2" type: "InnerProduct" bottom: "fc1" top: "fc2"
    inner_product_param {{ num_output: 10 weight_filler {{ type: "xavier" }} }}
  }}
  layer {{
    name: "accuracy" type: "Accuracy" bottom: "fc2" bottom: "label" top: "accuracy" include {{ phase: TEST }}
  }}
  layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc2" bottom: "label" top: "loss" }}
}}
test_iter: 7
test_interval: {test_interval}
base_lr: {base_lr}
lr_policy: "{lr_policy}"
gamma: 0.1
stepsize: 500
momentum: 0.9
weight_decay: 0.0005
display: {display}
max_iter: {max_iter}
snapshot: {snapshot}
snapshot_prefix: "snapshots/small"
random_seed: 7
solver_mode: CPU
"""
DEFAULTS = {
    "init": "none",
    "mirror": "true",
    "batch": 32,
    "width": 8,
    "test_interval": 100,
    "base_lr": 0.01,
    "lr_policy": "step",
    "display": 20,
    "max_iter": 400,
    "snapshot": 100,
}


@dataclass
class Bench:
    """A working folder with data in it, where commands are run."""

    folder: Path
    children: list[subprocess.Popen[str]]

    def solver(self, name: str = "small", extra: str = "", **values: object) -> Path:
        """Write a solver file called ``name``; ``values`` replace ``DEFAULTS``, ``extra`` is put behind."""
        path = self.folder / f"{name}.prototxt"
        path.write_text(SOLVER.format(**{**DEFAULTS, **values}) + extra)
        return Path(path.name)

    def run(self, *arguments: object, code: int = 0, timeout: float = 600) -> str:
        """Run ``run-caffe`` to its end; its standard error."""
        child = self.start(*arguments)
        _, error = child.communicate(timeout=timeout)
        assert child.returncode == code, error
        assert "Traceback" not in error
        return error

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """Start ``run-caffe`` in a session of its own."""
        command = [Path(sys.executable).parent / "run-caffe", *arguments]
        child = subprocess.Popen(
            list(map(str, command)),
            cwd=self.folder,
            env={"OMP_NUM_THREADS": "1", **os.environ, "OPENBLAS_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.children.append(child)
        return child

    def hear(self, child: subprocess.Popen[str], text: str, timeout: float = 60) -> str:
        """Wait until ``child`` has said ``text`` on stderr; what it has said, which `communicate` leaves out."""
        assert child.stderr is not None
        end, pipe, heard = time.monotonic() + timeout, child.stderr.fileno(), b""
        while text.encode() not in heard:
            assert select.select([pipe], [], [], end - time.monotonic())[0], f"{text!r} was not said: {heard!r}"
            part = os.read(pipe, 4096)
            assert part, f"{text!r} was not said: {heard!r}"
            heard += part
        return heard.decode()

    def log(self, session: int = 1, run: str = "small") -> str:
        """The text of a session's log; empty if missing."""
        path = self.folder / "logs" / f"{run}.{session:03}.log"
        return path.read_text() if path.is_file() else ""

    def wait_for(self, pattern: str, session: int = 1, run: str = "small", timeout: float = 300) -> re.Match[str]:
        """Wait until the log has a match for ``pattern``."""
        return self.wait_for_file(f"logs/{run}.{session:03}.log", pattern, timeout)

    def wait_for_file(self, name: str, pattern: str, timeout: float = 300) -> re.Match[str]:
        """Wait until a file has a match for ``pattern``."""
        end, path, text = time.monotonic() + timeout, self.folder / name, ""
        ended = False
        while time.monotonic() < end and not ended:
            ended = self.children[-1].poll() is not None  # asked before the file is read: what it wrote last counts
            text = path.read_text() if path.is_file() else ""
            if match := re.search(pattern, text):
                return match
            time.sleep(0.005)
        raise AssertionError(f"{pattern!r} did not come up in {name}:\n{text}")

    def worker(self, session: int = 1, run: str = "small") -> int:
        """The process id of the training process of a session."""
        return int(self.wait_for(r'"pid": (\d+)', session, run)[1])

    def weights(self, iteration: int, run: str = "small", snapshots: str = "snapshots") -> bytes:
        """The bytes of a ``.caffemodel``."""
        return (self.folder / snapshots / f"{run}_iter_{iteration}.caffemodel").read_bytes()


@pytest.fixture
def bench(tmp_path: Path, digits_root: Path) -> Iterator[Bench]:
    (tmp_path / "data").symlink_to(digits_root)
    made = Bench(tmp_path, [])
    yield made
    for child in made.children:
        if child.poll() is None:
            child.send_signal(signal.SIGKILL)
        child.communicate()


@pytest.fixture
def alive() -> Callable[[int], bool]:
    def is_alive(pid: int) -> bool:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return False
        return state != "Z"

    return is_alive
