"""Code that a prototxt brings along: named, and run only where the user wants it to be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

LAYER = """
import caffe
import helper_of_{0}
print("RUNS {0}", flush=True)
class Own(caffe.Layer):
    def setup(self, bottom, top): pass
    def reshape(self, bottom, top): top[0].reshape(1)
    def forward(self, bottom, top): top[0].data[...] = helper_of_{0}.VALUE
    def backward(self, top, propagate_down, bottom): pass
"""


def write_module(folder: Path, name: str = "own_layer") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(LAYER.format(name))
    (folder / f"helper_of_{name}.py").write_text("VALUE = 1")


def write_solver(bench: Any, path: str, module: str = "own_layer") -> Path:
    """The small solver with a Python layer, in any folder."""
    file = bench.folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    layer = f'layer {{ name: "own" type: "Python" top: "own" python_param {{ module: "{module}" layer: "Own" }} }}'
    text = (bench.folder / bench.solver(max_iter=40, snapshot=0)).read_text()
    file.write_text(text.replace('  layer {\n    name: "conv1"', f'  {layer}\n  layer {{\n    name: "conv1"'))
    return file


def test_from_pythonpath_it_runs_and_is_named_first(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write_module(bench.folder / "layers")
    monkeypatch.setenv("PYTHONPATH", "layers")
    said = bench.run(write_solver(bench, "net/a.prototxt"))
    named = "layer own of net/a.prototxt runs the Python module own_layer (layers/own_layer.py)"
    assert named.replace("layers/", f"{bench.folder}/layers/") in said.replace(f"{bench.folder}/net", "net")
    assert said.index("runs the Python module") < said.index("training from the start")
    assert "RUNS own_layer" in bench.log(run="a")


def test_beside_the_prototxt_it_must_be_allowed(bench: Any) -> None:
    write_module(bench.folder / "net")
    file = write_solver(bench, "net/a.prototxt")
    said = bench.run(file, code=2)
    assert f"would run {bench.folder}/net/own_layer.py, code that came with the prototxt" in said
    assert "--allow-python-layers" in said
    assert not (bench.folder / "logs").exists()
    assert f"own_layer ({bench.folder}/net/own_layer.py)" in bench.run(file, "--allow-python-layers")
    assert "RUNS own_layer" in bench.log(run="a")
    # and so it does on a resume, with more than one run
    bench.run(file, write_solver(bench, "net/b.prototxt"), "--allow-python-layers", "--max-iter", 60, "--jobs", 2)


def test_nor_beside_the_net_that_the_solver_names(bench: Any) -> None:
    write_module(bench.folder / "nets")
    text = write_solver(bench, "a.prototxt").read_text()
    start, end = text.index("net_param {") + len("net_param {"), text.index("test_iter")
    (bench.folder / "nets/net.prototxt").write_text(text[start : text[:end].rindex("}")])
    (bench.folder / "a.prototxt").write_text('net: "nets/net.prototxt"\n' + text[end:])
    assert f"would run {bench.folder}/nets/own_layer.py" in bench.run("a.prototxt", code=2)
    bench.run("a.prototxt", "--allow-python-layers")


def test_never_from_the_folder_that_the_command_is_started_in(bench: Any) -> None:
    write_module(bench.folder)
    file = write_solver(bench, "net/a.prototxt")
    for option in ((), ("--allow-python-layers",)):
        said = bench.run(file, *option, code=2)
        assert "the Python module 'own_layer', which is neither installed nor in PYTHONPATH nor in" in said


@pytest.mark.parametrize("name", ["json", "caffe"])
def test_a_file_beside_it_takes_no_other_module_s_place(bench: Any, name: str) -> None:
    """Allowed or not, ``json`` is Python's own."""
    write_module(bench.folder / "net")
    (bench.folder / f"net/{name}.py").write_text("raise SystemExit('HIJACKED')")
    bench.run(write_solver(bench, "net/a.prototxt"), "--allow-python-layers")
    said = bench.run(write_solver(bench, "net/b.prototxt", name), "--allow-python-layers", code=2)
    assert f"{bench.folder}/net/{name}.py" not in said
    assert "HIJACKED" not in said + bench.log(run="a") + bench.log(run="b")


@pytest.mark.parametrize("name", ["", "../net/own_layer", "own_layer.", "os; import own_layer"])
def test_a_name_that_is_none(bench: Any, name: str) -> None:
    write_module(bench.folder / "net")
    assert f"the Python module '{name}', which is neither" in bench.run(
        write_solver(bench, "net/a.prototxt", name), "--allow-python-layers", code=2
    )


def test_in_a_package_nothing_is_run_to_find_it(bench: Any) -> None:
    package = bench.folder / "net/pack"
    write_module(package)
    (package / "__init__.py").write_text(f"open({str(bench.folder / 'RAN')!r}, 'w')")
    said = bench.run(write_solver(bench, "net/a.prototxt", "pack.own_layer"), code=2)
    assert f"would run {package}/own_layer.py" in said
    assert not (bench.folder / "RAN").exists()
    assert "'pack.none'" in bench.run(write_solver(bench, "net/b.prototxt", "pack.none"), code=2)
    assert not (bench.folder / "RAN").exists()


def test_lint_says_whose_code_it_is(bench: Any) -> None:
    write_module(bench.folder / "net")
    for module, said in (
        ("own_layer", f"the Python module own_layer is {bench.folder}/net/own_layer.py, which came with the prototxt"),
        ("json", "the Python module json is /"),
    ):
        file = write_solver(bench, "net/a.prototxt", module)
        assert f"note python-code: layer own: {said}" in lint(file)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("nowhere", "the Python module nowhere is not installed here, nor in PYTHONPATH, nor beside the file"),
        ("json", "json/__init__.py has no class Own"),
        ("python_2", "net/python_2.py is no Python: line 3: "),
        ("makes_it", None),
    ],
)
def test_lint_finds_what_cannot_be_imported(bench: Any, module: str, said: str | None) -> None:
    (bench.folder / "net").mkdir()
    (bench.folder / "net/python_2.py").write_text(f"open({str(bench.folder / 'RAN')!r}, 'w')\n\nprint 'Own'\n")
    (bench.folder / "net/makes_it.py").write_text("globals()['Own'] = type('Own', (), {})\n")
    printed = lint(write_solver(bench, "net/a.prototxt", module))
    assert ("error python-module" in printed) == (said is not None)
    assert said is None or said in printed
    assert not (bench.folder / "RAN").exists()


def lint(file: Path) -> str:
    """What gen-prototxt --lint prints of a file."""
    command = [Path(sys.executable).parent / "gen-prototxt", "--lint", file]
    return subprocess.run(command, capture_output=True, text=True).stdout
