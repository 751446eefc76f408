"""No error and no warning on the layouts of well-known nets, with Caffe asked."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from caffebench.generator.lint import lint
from caffebench.generator.lint.asking import asking_caffe
from caffebench.generator.meaning import load_prototxt

pytestmark = pytest.mark.caffe
_SPEC = importlib.util.spec_from_file_location("layouts", Path(__file__).with_name("layouts.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)


@pytest.mark.parametrize("name", _MODULE.LAYOUTS)
def test_a_well_known_layout_has_no_finding(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(f"{name}.prototxt")
    path.write_text(_MODULE.LAYOUTS[name]())
    with asking_caffe():
        findings = lint([load_prototxt(path)])
    assert [str(one) for one in findings if one.severity != "note"] == []


@pytest.mark.parametrize("name", _MODULE.FORK_LAYOUTS)
def test_a_layout_of_a_fork_has_a_line_for_each_of_its_types(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write, types = _MODULE.FORK_LAYOUTS[name]
    path = Path(f"{name}.prototxt")
    path.write_text(write())
    with asking_caffe():
        findings = lint([load_prototxt(path)])
    assert {one.rule for one in findings if one.severity != "note"} == {"unknown-type"}
    said = [one.what for one in findings if one.severity != "note"]
    assert sorted(said) == sorted(f"type {kind!r} is not in BVLC Caffe" for kind in types)


READS = (
    'layer {{ name: "{0}" type: "Data" top: "data" top: "label" {2} '
    'data_param {{ source: "data/{1}" batch_size: 8 backend: LMDB }} }}\n'
)
IP = 'layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 4 } }\n'
LOSS = 'layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "{}" top: "loss" }}\n'
FEWER = 'layer { name: "few" type: "Power" bottom: "label" top: "few" power_param { scale: 0.3 } }\n'


@pytest.mark.parametrize(
    ("net", "found"),
    [
        (READS.format("data", "digits/train_lmdb", "") + IP + LOSS.format("label"), ["error labels"]),
        (
            READS.format("data", "digits/train_lmdb", "") + FEWER + IP + LOSS.format("few"),
            [],
        ),
        (
            READS.format("data", "digits/train_lmdb", "include { phase: TRAIN }")
            + READS.format("data", "none/test_lmdb", "include { phase: TEST }")
            + FEWER
            + IP
            + LOSS.format("few"),
            ["note missing-data"],  # no test is asked for
        ),
        (
            READS.format("data", "digits/train_lmdb", 'include { not_stage: "large" }')
            + READS.format("large", "none/train_lmdb", 'include { stage: "large" }')
            + FEWER
            + IP
            + LOSS.format("few"),
            ["note missing-data"],
        ),
    ],
)
def test_what_is_not_built_and_what_is_made_of_labels(
    digits_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, net: str, found: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").symlink_to(digits_root)
    Path("own.prototxt").write_text(f'base_lr: 0.1\nlr_policy: "fixed"\nmax_iter: 400\nnet_param {{\n{net}}}\n')
    hits = [f"{one.severity} {one.rule}" for one in lint([load_prototxt(Path("own.prototxt"))])]
    assert [one for one in hits if one.endswith(("labels", "missing-data"))] == found
