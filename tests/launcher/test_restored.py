"""What a resume lists as restored is as in a run that was never interrupted; what cannot be so is said."""

from __future__ import annotations

import json
import re
from typing import Any

SETTINGS = """
base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 max_iter: 60 display: 20 snapshot: 20 random_seed: 3
snapshot_prefix: "x"
"""
DATA = """
layer { name: "data" type: "Data" top: "data" top: "label" transform_param { scale: 0.00390625 }
  data_param { source: "data/digits/train_lmdb" batch_size: 64 backend: LMDB } }
"""
SCORES = """
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param {
  num_output: 10 weight_filler { type: "xavier" } } }
"""
LOSS = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }'


def write(bench: Any, layers: str, settings: str = "", header: str = "") -> str:
    """A solver with a net of ``layers``."""
    (bench.folder / "one.prototxt").write_text(f"{header}net_param {{ {layers} }}\n{settings}{SETTINGS}")
    return "one.prototxt"


def resumed(bench: Any, solver: str, *options: str, at: int = 40) -> tuple[bool, dict[str, Any]]:
    """Whether a run that is resumed at ``at`` ends with the weights of a whole one, and what its log says of that."""
    bench.run(solver, "--name", "whole", *options)
    bench.run(solver, "--name", "part", "--max-iter", at, *options)
    said = bench.run(solver, "--name", "part", *options)
    line = re.search(r"caffebench: resume (\{.*\})", bench.log(2, "part"))
    assert line is not None
    found = json.loads(line[1])
    lost = ", ".join(found["not_restored"])
    assert f"not restored: {lost}" in said if lost else "not restored" not in said
    return bench.weights(60, "whole") == bench.weights(60, "part"), found


def test_layers_that_are_called_alike(bench: Any) -> None:
    """Caffe tells data layers apart by their place, and lets them share a name, also in one net."""
    other = DATA.replace('top: "data" top: "label"', 'top: "data2" top: "label2"').replace("train_lmdb", "test_lmdb")
    shared = SCORES.replace('top: "ip"', 'top: "ip" param { name: "w" } param { name: "b" }')
    second = shared.replace('"ip"', '"ip2"').replace('"data"', '"data2"') + (
        'layer { name: "loss2" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label2" top: "loss2" }'
    )
    solver = write(bench, DATA + other + shared + second + LOSS)
    same, said = resumed(bench, solver)
    assert same
    assert said["not_restored"] == []


def test_the_first_of_layers_that_are_called_alike_has_other_data(bench: Any) -> None:
    other = DATA.replace('top: "data" top: "label"', 'top: "data2" top: "label2"').replace("train_lmdb", "test_lmdb")
    silent = 'layer { name: "quiet" type: "Silence" bottom: "data2" bottom: "label2" }'
    solver = write(bench, DATA + other + silent + SCORES + LOSS)
    bench.run(solver, "--max-iter", 40)
    path = bench.folder / solver
    path.write_text(path.read_text().replace("train_lmdb", "test_lmdb"))
    assert "test_lmdb has 360 records, and had 1,437 at the snapshot" in bench.run(solver)
