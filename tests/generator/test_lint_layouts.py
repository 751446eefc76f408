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
