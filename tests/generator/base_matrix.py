"""Every bundled sweep on every public architecture, on real Caffe: what trains, what is refused and why.

``make matrix`` runs all of it and writes ``docs/base-matrix.md``; ``make test`` a sample (``test_base_on_caffe.py``).
The nets are made small with the tool's own changes: `shrink` gives a sweep like any user's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import lmdb
import numpy as np

from caffebench.common.errors import InputError
from caffebench.engine.messages import caffe_messages
from caffebench.generator.base import generate_on_base, load_base
from caffebench.generator.variants.catalog import load_sweep, sweep_names
from caffebench.generator.variants.schema import Sweep
from caffebench.generator.variants.settings import Settings

sys.path.insert(0, str(Path(__file__).parent))
from architectures import ARCHITECTURES, PICTURES

ROOT = Path(__file__).parents[2]
RECORDS = 12
STORED = {"imagenet": (3, 100, 100)}
# Pixels a side that the nets for ImageNet are made to see: what their strides leave something of.
SIDES = {"caffenet": 67, "googlenet": 96, "squeezenet": 67, "resnet50": 64, "mobilenet": 64}
GLOBAL = {"pooling_param.kernel_size": None, "pooling_param.stride": None, "pooling_param.global_pooling": True}
MEANS = {"googlenet": "pool5/7x7_s1", "resnet50": "pool5"}  # seven pixels, of which fewer are left

STEPS = """
import json, sys, caffe, numpy
caffe.set_mode_cpu()
for path in sys.argv[1:]:
    caffe.set_random_seed(7)
    solver = caffe.get_solver(path)
    net = solver.net
    types = dict(zip(net._layer_names, (layer.type for layer in net.layers)))
    learn = {name: blobs for name, blobs in net.params.items() if types[name] != "BatchNorm"}
    still, wild, losses = set(learn), set(), []
    for steps in (2, 0):  # a look at the first weights, two steps, a look at what they have become
        net.clear_param_diffs()
        net.forward()
        net.backward()
        losses += [float(net.blobs[name].data.sum()) for name in net.outputs if net.blobs[name].data.size == 1]
        still -= {name for name, blobs in learn.items() if numpy.abs(blobs[0].diff).max() > 0}
        wild |= {name for name, blobs in learn.items() if not all(numpy.isfinite(blob.diff).all() for blob in blobs)}
        if steps:
            solver.step(steps)
    still, wild = sorted(still), sorted(wild)
    print(json.dumps({"file": path, "losses": losses, "learn": len(learn), "still": still, "wild": wild}), flush=True)
"""


def make_pictures(folder: Path) -> None:
    """LMDBs of random pictures with labels, ``data/NAME/{train,test}_lmdb``: two steps need no more."""
    random = np.random.default_rng(3)
    for name, shape in (PICTURES | STORED).items():
        for part in ("train", "test"):
            path = folder / "data" / name / f"{part}_lmdb"
            path.mkdir(parents=True)
            with lmdb.open(str(path), map_size=1 << 26) as database, database.begin(write=True) as writing:
                for number in range(RECORDS):
                    pixels = random.integers(0, 256, shape, np.uint8)
                    label = number % 2 if name == "pairs" else number % 10
                    datum = caffe_messages().Datum(
                        channels=shape[0], height=shape[1], width=shape[2], data=pixels.tobytes(), label=label
                    )
                    writing.put(f"{number:08}".encode(), datum.SerializeToString())


def shrink(name: str) -> Sweep:
    """The sweep of one variant that makes an architecture small enough for two steps on one core."""
    edit: list[dict[str, object]] = [
        {"solver": True, "test_iter": [1] * (2 if name == "autoencoder" else 1), "test_interval": 100},
        {"type": "Data", "phase": "TEST", "data_param.batch_size": 2},
    ]
    if name == "caffenet":
        edit.append({"layer": ["fc6", "fc7"], "inner_product_param.num_output": 512})
        # Its biases of 1 let nothing negative into the last activations, and the slopes of a PReLU have no gradient.
        edit.append({"type": "Convolution", "convolution_param.bias_filler.value": 0})
        edit.append({"layer": ["fc6", "fc7"], "inner_product_param.bias_filler.value": 0})
    if name in MEANS:
        edit.append({"layer": MEANS[name], **GLOBAL})
    # Their learning rates are for large batches of pictures with something on them.
    settings = {"batch_size": 4, "base_lr": "recipe.base_lr / 100", "edit": edit} | (
        {"crop_size": SIDES[name]} if name in SIDES else {}
    )
    if name in ("resnet50", "mobilenet"):
        settings["width"] = 0.5
    if name == "autoencoder":  # its own weights, of N(0, 1), explode as soon as the activation has no bounds
        settings["filler"] = "xavier"
    return Sweep(sweep="shrink", title="t", studies="s", source="us", name="small", label="l",
                 settings=Settings.model_validate(settings), variants=[{}])  # type: ignore[list-item]  # fmt: skip


def make_base(name: str, folder: Path) -> Path:
    """The architecture's solver, made small, as a file in ``folder``; the working folder must be ``folder``."""
    full = folder / f"{name}_full.prototxt"
    full.write_text(ARCHITECTURES[name]())
    made = generate_on_base([shrink(name)], load_base(full))
    assert not made.refused, made.refused
    small = folder / f"{name}.prototxt"
    small.write_text(made.texts["small"])
    return small


def variants(name: str, folder: Path) -> tuple[dict[str, dict[str, Path]], dict[str, dict[str, str]]]:
    """The file of each variant by sweep, and the reason for each that is refused."""
    base = load_base(make_base(name, folder))
    files: dict[str, dict[str, Path]] = {}
    refused: dict[str, dict[str, str]] = {}
    for sweep in sweep_names():
        try:
            made = generate_on_base([load_sweep(sweep)], base)
        except InputError as error:
            refused[sweep] = {"*": str(error)}
            continue
        refused[sweep] = made.refused
        files[sweep] = {}
        for variant, text in made.texts.items():
            path = folder / name / f"{sweep}.{variant}.prototxt"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            files[sweep][variant] = path
    return files, refused


def two_steps(paths: list[Path], folder: Path) -> dict[Path, str]:
    """What is wrong with each file after two steps, "" where nothing is."""
    found: dict[Path, str] = {}
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "GLOG_minloglevel": "2"}
    while left := [path for path in paths if path not in found]:
        command = [sys.executable, "-c", STEPS, *map(str, left[:20])]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, check=False)
        for one in map(json.loads, done.stdout.splitlines()):
            wrong = [f"no gradient in {', '.join(one['still'])}"] if one["still"] else []
            wrong += [f"no finite gradient in {', '.join(one['wild'])}"] if one["wild"] else []
            if not one["losses"] or not np.isfinite(one["losses"]).all():
                wrong.append(f"losses {one['losses']}")
            found[Path(one["file"])] = "; ".join(wrong)
        if done.returncode:
            first = next(path for path in left if path not in found)
            lines = [line for line in done.stderr.splitlines() if "Check failed" in line or "Error" in line]
            found[first] = (lines or done.stderr.splitlines() or ["died"])[-1][:300]
    return found


def page(folder: Path) -> str:
    """The page of results: how many variants of each sweep train on each net, and why others are refused."""
    tables = {
        name: json.loads((folder / f"{name}.json").read_text())
        for name in ARCHITECTURES
        if (folder / f"{name}.json").exists()
    }
    missing = [name for name in ARCHITECTURES if name not in tables]
    rows = [["sweep", *tables], ["---"] * (1 + len(tables))]
    reasons: dict[str, list[str]] = {}
    notes = []
    for sweep in sweep_names():
        cells = []
        for name, table in tables.items():
            count, refused, wrong = table[sweep]
            whole = count + len(refused) + len(wrong)
            cells.append("refused" if not count else f"{count} of {whole}" if count < whole else str(count))
            for variant, why in refused.items():
                what = sweep if variant == "*" else f"`{variant}`"
                told = why.replace(f"/{name}.prototxt", "").replace(str(folder), "the user's solver")
                reasons.setdefault(f"{what}: {told}", []).append(name)
            notes += [f"`{variant}` on {name}: {what}" for variant, what in wrong.items()]
        rows.append([sweep, *cells])
    total = sum(table[sweep][0] for table in tables.values() for sweep in sweep_names())
    told = f"""
        Made by `make matrix`. Each of {len(tables)} nets, written out from its paper in
        `tests/generator/architectures.py`, was made small with changes that any sweep can make (batches of 4, crops of
        64 to 96 pixels, a hundredth of the learning rate; CaffeNet's hidden layers of 512, its biases 0 at the start;
        half the width of ResNet-50 and MobileNet; the autoencoder's weights filled by `xavier`) and taken as
        the `--base` of every bundled sweep. A number is that of the variants that real Caffe loads, trains for two
        steps with a finite loss and with a gradient in every layer that learns: {total} files in all. The others are
        refused, for the reasons below."""
    lines = [
        "# Bundled sweeps on public architectures",
        "",
        *textwrap.wrap(" ".join(told.split()), 119),
        *(["", f"Not run through yet: {', '.join(missing)}."] if missing else []),
        "",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        "## Refused",
        "",
        *(f"* {', '.join(names)}: {why}" for why, names in reasons.items()),
    ]
    if notes:
        lines += ["", "## Not as it should be", "", *(f"* {note}" for note in notes)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run everything in the folder given, print what is wrong, write the page; or only the nets named behind it."""
    folder = Path(sys.argv[1]).resolve()
    names = sys.argv[2:] or list(ARCHITECTURES)
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    if not (folder / "data").exists():
        make_pictures(folder)
    (folder / "snapshots").mkdir(exist_ok=True)
    for name in names:
        files, refused = variants(name, folder)
        results = two_steps([path for made in files.values() for path in made.values()], folder)
        for path, what in results.items():
            if what:
                print(f"{name} {path.name}: {what}", flush=True)
        table: dict[str, list[object]] = {}
        for sweep in sweep_names():
            made = files.get(sweep, {})
            wrong = {variant: results[path] for variant, path in made.items() if results[path]}
            table[sweep] = [len(made) - len(wrong), refused[sweep], wrong]
        (folder / f"{name}.json").write_text(json.dumps(table))
        print(name, sum(len(made) for made in files.values()), "run", flush=True)
        (ROOT / "docs" / "base-matrix.md").write_text(page(folder))  # of what there is so far


if __name__ == "__main__":
    main()
