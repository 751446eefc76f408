"""`install-caffe` for real: in environments of its own, interrupted, damaged, beside a foreign Caffe."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections import namedtuple
from pathlib import Path

import pytest
from click.testing import CliRunner

from caffebench.common.errors import CaffebenchError
from caffebench.engine import build, build_spec, system
from caffebench.engine.build_spec import BuildSpec
from caffebench.engine.cli import main
from caffebench.engine.features import caffe_has_opencv
from caffebench.engine.locate import caffe_folder, caffe_pb2, caffe_tool
from caffebench.engine.probe import Probe, probe

HERE = Path(sys.executable).parent


@pytest.fixture(scope="module")
def caffe_environment(environment):
    """The empty environment with Caffe put into it from the cache."""
    done = environment.run("install-caffe")
    assert done.returncode == 0, done.stderr
    return environment


def own_cache(folder: Path) -> dict[str, str]:
    """An environment whose cache is empty but for the source package, which is not downloaded again."""
    cache = folder / "cache"
    shutil.copytree(build.cache_folder() / "downloads", cache / "downloads")
    return dict(os.environ, CAFFEBENCH_CACHE=str(cache))


@pytest.mark.caffe
def test_check_says_what_is_installed():
    done = subprocess.run([HERE / "install-caffe", "--check"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("Caffe 1.0.0, ")
    assert "blas" in done.stdout
    assert f"fast CPU layers, {61 if caffe_has_opencv() else 59} layer types" in done.stdout


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (["--opencv"], None),
        (["--leveldb"], "Caffe was built without LevelDB: run install-caffe --leveldb"),
        (["--cudnn", "--opencv"], "Caffe was built without CUDA and cuDNN: run install-caffe --cuda --cudnn"),
        (["--no-opencv", "--no-leveldb"], None),
    ],
)
def test_check_fails_where_something_asked_for_is_not_in_it(monkeypatch, asked, says):
    found = Probe(None, folder="here", version="1.0.0", layers=61, blas="libopenblas.so", opencv=True, fast=True)
    monkeypatch.setattr("caffebench.engine.probe.probe", lambda: found)
    done = CliRunner().invoke(main, ["--check", *asked])
    assert "OpenCV, fast CPU layers, 61 layer types, without LevelDB: here" in " ".join(done.stdout.split())
    assert (done.exit_code, done.stderr) == ((1, f"install-caffe: {says}\n") if says else (0, ""))


def test_check_says_what_is_missing(environment):
    shutil.rmtree(environment.packages / "caffe", ignore_errors=True)
    done = environment.run("install-caffe", "--check")
    assert done.returncode == 1
    assert done.stderr == "install-caffe: Caffe is not installed for this Python: run install-caffe\n"


def test_caffe_works_with_no_variable_set(caffe_environment):
    bare = {"env": {"PATH": "/usr/bin:/bin"}}
    imported = caffe_environment.run("python", "-c", "import caffe; print(caffe.__version__)", **bare)
    assert imported.stdout == "1.0.0\n", imported.stderr
    assert caffe_environment.run("caffe", "--version", **bare).stdout == "caffe version 1.0.0\n"


def test_a_second_run_changes_nothing(caffe_environment):
    folder = caffe_environment.packages / "caffe"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.so*")}
    done = caffe_environment.run("install-caffe")
    assert done.returncode == 0
    assert "already installed" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.so*")} == before


def test_a_damaged_caffe_is_told_and_repaired(caffe_environment):
    library = caffe_environment.packages / "caffe" / "_caffe.so"
    with library.open("r+b") as file:
        file.truncate(library.stat().st_size // 2)
    checked = caffe_environment.run("install-caffe", "--check")
    assert checked.returncode == 1
    assert "does not work" in checked.stderr
    assert caffe_environment.run("install-caffe").returncode == 0
    assert caffe_environment.run("install-caffe", "--check").returncode == 0


def test_what_a_killed_install_left_is_no_caffe(caffe_environment):
    folder = caffe_environment.packages / "caffe"
    half = folder.with_name(".caffe.arriving")
    folder.rename(half)
    (half / "_caffe.so").unlink()
    assert caffe_environment.run("install-caffe", "--check").returncode == 1
    assert caffe_environment.run("install-caffe").returncode == 0
    assert caffe_environment.run("install-caffe", "--check").returncode == 0
    assert not half.exists()


def test_a_foreign_caffe_that_works_is_left_alone(caffe_environment):
    manifest = caffe_environment.packages / "caffe" / build.MANIFEST
    kept = manifest.read_text()
    manifest.unlink()
    try:
        done = caffe_environment.run("install-caffe")
        assert done.returncode == 0
        assert "left alone" in done.stderr
        assert not manifest.exists()
    finally:
        manifest.write_text(kept)


def test_a_foreign_caffe_that_is_broken_is_not_overwritten(environment):
    folder = environment.packages / "caffe"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "__init__.py").write_text("raise ImportError('built for another Python')\n")
    try:
        done = environment.run("install-caffe")
        assert done.returncode == 1
        assert "built for another Python" in done.stderr
        assert "--force" in done.stderr
        assert (folder / "__init__.py").exists()
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_build_leaves_no_caffe(environment, tmp_path, how):
    shutil.rmtree(environment.packages / "caffe", ignore_errors=True)
    variables = own_cache(tmp_path)
    command = [environment.folder / "bin" / "install-caffe", "--no-opencv", "--no-leveldb", "--jobs", "1"]
    process = subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "cache" / f"{BuildSpec().key}.log"
    deadline = time.monotonic() + 600
    while not (log.exists() and "Building CXX object" in log.read_text()):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(how)
    stderr = process.communicate(timeout=60)[1]
    if how != signal.SIGKILL:
        assert process.returncode == 3
        assert stderr.endswith("install-caffe: stopped\n")
        assert not list(tmp_path.glob("cache/*.work"))
        for _ in range(50):  # on a busy machine a process that is killed ends a little later
            if not compilers_below(tmp_path):
                break
            time.sleep(0.2)
        assert not compilers_below(tmp_path)
    assert not (tmp_path / "cache" / BuildSpec().key).exists()
    assert environment.run("install-caffe", "--check").returncode == 1


def compilers_below(folder: Path) -> list[str]:
    """Processes that still work below ``folder``."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve().is_relative_to(folder):
                found.append((process / "cmdline").read_text())
        except OSError:
            continue
    return found


def test_a_build_is_whole_only_with_every_file_at_its_size(tmp_path):
    folder = tmp_path / "caffe"
    folder.mkdir()
    assert not build.is_whole(folder)
    (folder / "_caffe.so").write_bytes(b"four")
    (folder / build.MANIFEST).write_text(json.dumps({"files": {"_caffe.so": 4}}))
    assert build.is_whole(folder)
    (folder / "_caffe.so").write_bytes(b"thr")
    assert not build.is_whole(folder)
    (folder / build.MANIFEST).write_text("[]")
    assert not build.is_whole(folder)


def test_no_network_is_said(environment, tmp_path):
    shutil.rmtree(environment.packages / "caffe", ignore_errors=True)
    offline = dict(os.environ, CAFFEBENCH_CACHE=str(tmp_path), PIP_NO_INDEX="1", PIP_CONFIG_FILE=os.devnull)
    offline["PIP_FIND_LINKS"] = str(tmp_path)
    done = environment.run("install-caffe", env=offline)
    assert done.returncode == 1
    assert "cannot download" in done.stderr
    assert f"into {tmp_path}" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_is_said(environment, tmp_path):
    shutil.rmtree(environment.packages / "caffe", ignore_errors=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(tmp_path)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"no mount allowed here: {mounted.stderr.decode().strip()}")
    try:
        done = environment.run("install-caffe", env=dict(os.environ, CAFFEBENCH_CACHE=str(tmp_path)))
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    assert done.returncode == 1
    assert "20 MiB free of the 500 MiB needed" in done.stderr


def test_a_missing_system_package_is_installed_by_root_only(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(
        CaffebenchError, match=r"sudo apt-get install -y --no-install-recommends no-such-package-anywhere$"
    ):
        system.require_system_packages(print, ["make", "no-such-package-anywhere"])


def test_boost_of_another_python_is_refused(monkeypatch):
    system.require_boost_python()
    Version = namedtuple("Version", "major minor")
    monkeypatch.setattr(sys, "version_info", Version(3, 99))
    with pytest.raises(
        CaffebenchError, match=r"this is Python 3\.99 and there is no Boost\.Python for it: there is one for 3\.\d+"
    ):
        system.require_boost_python()


@pytest.mark.parametrize(
    ("printed", "named"),
    [
        ("RuntimeError: module was compiled against NumPy C-API version 0x10", True),
        ("A module that was compiled using NumPy 1.x cannot be run in NumPy 2.4.6", True),
        ("a word of no error", False),
    ],
)
def test_what_a_library_printed_is_the_error(tmp_path, monkeypatch, printed, named):
    last = "initialization of _caffe raised unreported exception"
    (tmp_path / "caffe.py").write_text(
        f"import sys\nprint({printed!r}, file=sys.stderr)\nraise SystemError({last!r})\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert probe().error == (printed if named else f"SystemError: {last}")


@pytest.mark.caffe
def test_the_numpy_of_this_environment_is_compiled_with(tmp_path, monkeypatch):
    """Debian's python3-numpy puts its headers beside Python's."""
    package = build.cache_folder() / "downloads" / f"{build_spec.SOURCE.replace('==', '-')}.tar.gz"
    if not package.is_file():
        pytest.skip("this Caffe was not built here: there is no source package in the cache")
    headers = tmp_path / "python"
    headers.mkdir()
    for file in Path(sysconfig.get_paths()["include"]).iterdir():
        (headers / file.name).symlink_to(file)
    (headers / "numpy").unlink(missing_ok=True)
    (headers / "numpy").mkdir()
    (headers / "numpy" / "arrayobject.h").write_text('#error "the NumPy of the distribution"\n')
    monkeypatch.setattr(build_spec.sysconfig, "get_paths", lambda: {"include": str(headers)})
    library = build_spec.shared_libpython()
    with (tmp_path / "log").open("w") as log:
        folder = build._configure(BuildSpec(), None, build.unpack(package, tmp_path), library, dict(os.environ), log)
    flags = (folder / "python/CMakeFiles/pycaffe.dir/flags.make").read_text()
    assert f"-I{headers}" in flags
    includes = next(line for line in flags.splitlines() if line.startswith("CXX_INCLUDES")).partition("=")[2].split()
    (tmp_path / "try.cpp").write_text("#include <Python.h>\n#include <numpy/arrayobject.h>\n")
    done = subprocess.run(["c++", *includes, "-M", str(tmp_path / "try.cpp")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{headers}/Python.h" in done.stdout


def test_the_first_error_of_a_build_log_is_quoted(tmp_path):
    log = tmp_path / "log"
    log.write_text("[ 1%] Building\nx.cpp:3:1: error: expected ';'\nmake: *** [all] Error 2\n")
    assert build._first_error(log) == "x.cpp:3:1: error: expected ';'"
    log.write_text(
        "-- Could NOT find Boost: missing: python-py3117\n"  # CMake tries another name for it
        "CMake Error at FindPackageHandleStandardArgs.cmake:230 (message):\n\n  Could NOT find LMDB\nCall Stack:\n"
    )
    assert build._first_error(log) == "Could NOT find LMDB"
    log.write_text("x.cpp: error: cannot write: No space left on device\n")
    assert "No space left on device" in build._first_error(log)


@pytest.mark.caffe
def test_the_messages_are_those_of_pycaffe():
    early = caffe_pb2()
    assert caffe_tool().is_file()
    assert caffe_folder().name == "caffe"
    import caffe.proto.caffe_pb2 as late

    assert early.SolverParameter is late.SolverParameter
