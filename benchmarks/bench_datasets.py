"""make-lmdb folder and Caffe's own convert_imageset on the same JPEG files: whole commands, taking turns.

    python benchmarks/bench_datasets.py [CONVERT_IMAGESET]     (default: the one on the path)

The files are cut-outs of scikit-learn's two photographs, square, since convert_imageset cannot keep the ratio of
the sides; both commands shuffle and write LMDBs of the same size. benchmarks/build_convert_imageset.sh builds the
tool, which install-caffe does not: it wants OpenCV.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

IMAGES, CLASSES, SIDE, ROUNDS = 3000, 10, 400, 5
CASES = {
    "400 to 128 pixels, raw": (["--small-side", "128"], ["--resize_width=128", "--resize_height=128"]),
    "400 to 128 pixels, JPEG": (
        ["--small-side", "128", "--encoded"],
        ["--resize_width=128", "--resize_height=128", "--encoded", "--encode_type=jpg"],
    ),
    "as they are, JPEG": (["--encoded"], ["--encoded", "--encode_type=jpg"]),
}


def photographs(folder: Path) -> Path:
    """Write the files, a folder a class, and Caffe's list of them; return the list."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    random = np.random.RandomState(0)
    whole = [Image.fromarray(image) for image in load_sample_images().images]
    lines = []
    for number in range(IMAGES):
        label = number % CLASSES
        path = folder / f"class{label}" / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        left, top = random.randint(0, 240), random.randint(0, 27)
        cut = whole[number % 2].crop((left, top, left + SIDE, top + SIDE))
        cut.save(path, quality=90)
        lines.append(f"{path.relative_to(folder)} {label}\n")
    listed = folder.with_suffix(".txt")
    listed.write_text("".join(lines))
    return listed


def seconds(command: list[str], out: Path) -> float:
    """The wall time of a command that writes ``out``."""
    shutil.rmtree(out, ignore_errors=True)
    os.sync()  # nobody pays for what another has left to be written
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    took = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr[-500:]}")
    return took


def main() -> None:
    """Print a line for each case."""
    tool = shutil.which(sys.argv[1] if len(sys.argv) > 1 else "convert_imageset")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        listed = photographs(folder / "photographs")
        make_lmdb = str(Path(sys.executable).parent / "make-lmdb")
        print(f"{IMAGES} JPEG files of {SIDE} x {SIDE}, {os.cpu_count()} cores, median of {ROUNDS} rounds")
        if tool is None:
            print("convert_imageset is not on the path (build_convert_imageset.sh builds it): make-lmdb alone")
        for case, (ours, caffes) in CASES.items():
            out = folder / "out"
            commands = {"make-lmdb": [make_lmdb, "folder", str(folder / "photographs"), str(out), *ours]}
            if tool is not None:
                commands["convert_imageset"] = [
                    tool, "--shuffle", *caffes, f"{folder / 'photographs'}/", str(listed), str(out)
                ]  # fmt: skip
            times: dict[str, list[float]] = {name: [] for name in commands}
            for _ in range(ROUNDS):
                for name, command in commands.items():
                    times[name].append(seconds(command, out))
            shown = ", ".join(f"{name} {median(took):.2f} s" for name, took in times.items())
            ratio = (
                f": {median(times['convert_imageset']) / median(times['make-lmdb']):.2f} times as fast" if tool else ""
            )
            print(f"{case}: {shown}{ratio}", flush=True)


if __name__ == "__main__":
    main()
