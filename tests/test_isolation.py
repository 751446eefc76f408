"""Nothing in the folder that a command is started in is run as code, whatever it is called."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.caffe
TOOLS = Path(sys.executable).parent
PACKAGES = (
    "caffe caffebench click cloudpickle google jinja2 lmdb markupsafe matplotlib numpy pandas PIL pip plotly polars "
    "pyarrow pydantic pydantic_core rich scipy setuptools sitecustomize six skimage sklearn submitit tensorboard "
    "threadpoolctl usercustomize yaml zstandard"
)


@pytest.fixture
def folder(tmp_path: Path, digits_root: Path) -> Path:
    """A folder with a module for every name that Python or a package has; each leaves its name when it is run."""
    (tmp_path / "data").symlink_to(digits_root)
    for name in {*sys.stdlib_module_names, *PACKAGES.split()}:
        trap = f"open({str(tmp_path / 'HIJACKED')!r}, 'a').write({name!r} + '\\n')\nraise SystemExit('hijacked')\n"
        (tmp_path / f"{name}.py").write_text(trap)
    return tmp_path


def run(folder: Path, *command: object, code: int = 0) -> str:
    """Run one of the five; what it printed."""
    done = subprocess.run(
        [str(TOOLS / str(command[0])), *map(str, command[1:])],
        cwd=folder,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    trap = folder / "HIJACKED"
    assert not trap.exists(), f"{command}: {trap.read_text()}\n{done.stderr}"
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


@pytest.mark.caffe
def test_no_command_and_no_child_of_one_runs_it(folder: Path) -> None:
    run(folder, "gen-prototxt", "batch_size", "--profile", "digits", "--only", "bs64", "--set", "max_iter=20")
    file = folder / "prototxt/bs64.prototxt"
    file.write_text("# caffebench: loader: {workers: 2}\n" + file.read_text())
    run(folder, "gen-prototxt", "--lint", file, code=1)
    run(folder, "run-caffe", file)
    assert "training from iteration 20" in run(folder, "run-caffe", file, "--max-iter", 30)
    for number in range(20):  # so many that several processes read them
        shutil.copy(folder / "logs/bs64.001.log", folder / f"logs/copy{number}.001.log")
    run(folder, "merge-logs", "logs", "--table", "--plot", "--html")
    run(folder, "install-caffe", "--check")


def test_nor_do_the_workers_of_make_lmdb(folder: Path) -> None:
    from PIL import Image

    for name in ("a", "b"):
        (folder / "pictures" / name).mkdir(parents=True)
        for number in range(4):
            Image.new("L", (8, 8), number).save(folder / f"pictures/{name}/{number}.png")
    run(folder, "make-lmdb", "folder", "pictures", "made", "--jobs", 2)
    run(folder, "make-lmdb", "digits", "digits")


def test_an_empty_entry_of_pythonpath_is_not_the_current_folder(tmp_path: Path) -> None:
    from caffebench.common.isolated import module_command

    (tmp_path / "json.py").write_text("raise SystemExit('hijacked')")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/own.py").write_text("import json, sys; print(json.__name__, sys.argv[1:])")
    done = subprocess.run(
        module_command("own", "-m", "x"),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ":mine:"},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "json ['-m', 'x']\n", done.stderr


@pytest.mark.parametrize("python", [sys.executable, "/usr/bin/python3"])
def test_a_sitecustomize_of_pythonpath_runs_in_children_too(tmp_path: Path, python: str) -> None:
    """Debian's own Python has had one of its own run before."""
    from caffebench.common.isolated import module_command

    if shutil.which(python) is None:
        pytest.skip(f"{python} is not here")
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.customized = True")
    (tmp_path / "own.py").write_text("import sys; print(sys.customized)")
    done = subprocess.run(
        [python, *module_command("own")[1:]],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "True\n", done.stderr
