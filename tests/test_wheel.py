"""The wheel in an empty environment: what users get from an index."""

from __future__ import annotations

import re
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
VERSION = re.findall(r'^__version__ = "(.+)"$', (ROOT / "package" / "__init__.py").read_text(), re.MULTILINE)[0]
ROOMS = ("common", "engine", "datasets", "generator", "templates", "launcher", "analysis")


def test_nothing_but_the_namespace_lands_at_the_top(wheel):
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"caffebench"}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="made with the headers of Python 3.11 or newer")
def test_one_file_is_for_every_python_and_any_linux_of_some_age(wheel):
    _, _, python, interface, platforms = wheel.stem.split("-")
    assert (python, interface) == ("cp310", "abi3")
    assert all(one.startswith("manylinux") for one in platforms.split("."))
    with zipfile.ZipFile(wheel) as archive:
        compiled = [name for name in archive.namelist() if name.endswith(".so")]
    assert compiled
    assert all(name.endswith(".abi3.so") for name in compiled)


def test_every_module_template_sweep_and_profile_is_in_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    wanted = {
        f"caffebench/{path.relative_to(ROOT)}"
        for room in ROOMS
        for pattern in ("*.py", "*.j2", "*.css", "*.js", "*.yaml", "*.h", "py.typed")
        for path in (ROOT / room).rglob(pattern)
    }
    assert any(name.endswith(".j2") for name in wanted)
    assert any("/sweeps/" in name for name in wanted)
    assert any("/profiles/" in name for name in wanted)
    assert wanted - names == set()


def test_it_generates_the_files_that_are_checked_in(environment, tmp_path):
    done = environment.run("gen-prototxt", "batch_size", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    written = {path.name: path.read_text() for path in (tmp_path / "prototxt").iterdir()}
    assert len(written) == 12
    assert written == {name: (ROOT / "prototxt" / name).read_text() for name in written}


def test_it_merges_logs_with_its_compiled_loops(environment, wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        inside = [name for name in archive.namelist() if re.match(r"caffebench/analysis/(\w+/)?_", name)]
    assert sum(name.endswith(".so") for name in inside) == 3
    done = environment.run("merge-logs", str(ROOT / "logs/studies/bn_dropout"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    summary = (tmp_path / "results" / "summary.csv").read_text().splitlines()
    assert len(summary) == 1 + len(list((ROOT / "logs/studies/bn_dropout").glob("*.001.log.gz")))
    assert (tmp_path / "results" / "curves.csv").read_text().count("\n") > 1000


@pytest.mark.parametrize("name", ["install-caffe", "make-lmdb", "gen-prototxt", "run-caffe", "merge-logs"])
def test_every_command_is_there(environment, name):
    assert environment.run(name, "--version").stdout == f"{name} {VERSION}\n"
    helped = environment.run(name, "--help")
    assert helped.returncode == 0
    assert "Examples:" in helped.stdout


def test_the_package_knows_its_version(environment):
    asked = (
        "import caffebench, importlib.metadata; print(caffebench.__version__, importlib.metadata.version('caffebench'))"
    )
    assert environment.run("python", "-c", asked).stdout.split() == [VERSION, VERSION]


def test_tables_for_pandas_come_with_the_extra_of_everything(environment, wheel):
    """Last, because it fills the environment that the tests above have bare."""
    done = environment.run("python", "-m", "pip", "install", "--quiet", f"{wheel}[frames]")
    assert done.returncode == 0, done.stderr
    code = "import sys; from caffebench.analysis import read; print(len(read(sys.argv[1]).to_pandas()) > 1000)"
    done = environment.run("python", "-c", code, str(ROOT / "logs"))
    assert done.stdout == "True\n", done.stderr
    asked = "from importlib.metadata import requires; print([one for one in requires('caffebench') if 'all' in one])"
    assert "frames" in environment.run("python", "-c", asked).stdout
