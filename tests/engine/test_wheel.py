"""Caffe as a wheel: made from the cache, installed by pip and by `install-caffe`, with nothing of the system's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from caffebench.common.errors import CaffebenchError, InputError
from caffebench.engine import build, system
from caffebench.engine.build_spec import BuildSpec
from caffebench.engine.wheel.install import install_wheel
from caffebench.engine.wheel.libraries import needed_libraries

HERE = Path(sys.executable).parent
MINOR = f"{sys.version_info.major}{sys.version_info.minor}"


@pytest.fixture(scope="module")
def caffe_wheel(tmp_path_factory) -> Path:
    """The wheel, made once from the Caffe that is built already."""
    if not build.is_whole(build.cache_folder() / BuildSpec().key / "caffe"):
        pytest.skip("no Caffe has been built here: make setup does")
    folder = tmp_path_factory.mktemp("made")
    done = subprocess.run([HERE / "install-caffe", "--wheel", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = Path(done.stdout.strip())
    assert list(folder.iterdir()) == [made]
    return made


@pytest.fixture(scope="module")
def unpacked(caffe_wheel, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(caffe_wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.mark.wheel
@pytest.mark.caffe
def test_its_name_says_for_which_python_and_c_library(caffe_wheel):
    assert re.fullmatch(rf"caffebench_caffe-1\.0\.0\S*-cp{MINOR}-cp{MINOR}-manylinux_2_\d+_\w+\.whl", caffe_wheel.name)


@pytest.mark.wheel
@pytest.mark.caffe
def test_every_library_is_inside_but_libpython_and_the_c_library(unpacked):
    libraries = [path for path in unpacked.rglob("*.so*") if path.read_bytes()[:4] == b"\x7fELF"]
    names = {path.name for path in libraries}
    assert {"_caffe.so", "libcaffe_tool.so", "libcaffebench_fast.so"} <= names
    for stem in ("libopenblas", "libprotobuf", f"libboost_python{MINOR}", "libhdf5_serial", "liblmdb", "libdnnl"):
        assert any(name.startswith(stem) for name in names), stem
    needed = set()
    for library in libraries:
        told = subprocess.run(["readelf", "-d", library], capture_output=True, text=True, check=True).stdout
        needed.update(re.findall(r"\(NEEDED\).*\[(.+)\]", told))
    outside = {name.partition(".so")[0] for name in needed - names}
    assert outside <= {"libc", "libm", "libpthread", "libresolv", "libdl", "librt", "libgcc_s", "libstdc++", "libz"} | {
        "ld-linux-x86-64", "ld-linux-aarch64",
    }  # fmt: skip
    assert {path.name for path in needed_libraries(libraries)} <= needed - names  # as the loader finds them


@pytest.mark.wheel
@pytest.mark.caffe
def test_it_names_what_it_imports_and_the_licenses_of_what_is_in_it(unpacked):
    facts = next(unpacked.glob("*.dist-info"))
    required = re.findall(r"^Requires-Dist: ([a-z-]+)", (facts / "METADATA").read_text(), re.MULTILINE)
    assert required == ["numpy", "protobuf", "six", "scikit-image", "scipy"]
    listed = (facts / "licenses" / "LIBRARIES.txt").read_text()
    for library in unpacked.glob("*.libs/*"):
        stem = re.match(r"(lib[a-zA-Z0-9_]+)", library.name)[1].removesuffix("p")  # libopenblasp-r0 is libopenblas.so.0
        assert f"\n{stem}" in listed, library
    if shutil.which("dpkg-query"):
        assert any("Boost Software License" in path.read_text() for path in (facts / "licenses").glob("libboost-*"))
        packages = {line.partition(": ")[2].partition(" ")[0] for line in listed.splitlines()[1:]}
        assert {f"{package}.txt" for package in packages} <= {path.name for path in (facts / "licenses").iterdir()}


@pytest.mark.caffe
def test_install_caffe_takes_it(caffe_wheel, environment):
    """In the place of the Caffe that was built there; the tool is there each time."""
    bare = {"env": {"PATH": "/usr/bin:/bin"}}
    assert environment.run("install-caffe").returncode == 0
    linked = environment.folder / "bin" / "caffe"
    assert linked.is_symlink()
    done = environment.run("install-caffe", str(caffe_wheel))
    assert done.returncode == 0, done.stderr
    assert re.match(r"Caffe 1\.0\.0, CPU only, BLAS libopenblas\S+, .*fast CPU layers, ", done.stdout)
    assert not linked.is_symlink()
    assert not (environment.packages / "caffe" / "bin").exists()
    assert environment.run("caffe", "--version", **bare).stdout == "caffe version 1.0.0\n"
    again = environment.run("install-caffe")
    assert again.stderr == "the Caffe of a wheel works already: it is left alone\n"
    removed = environment.run("python", "-m", "pip", "uninstall", "--yes", "caffebench-caffe")
    assert removed.returncode == 0
    assert not (environment.packages / "caffe").exists()


@pytest.mark.caffe
def test_its_tool_trains_and_ends_like_caffes_own(caffe_wheel, environment, tmp_path):
    assert environment.run("install-caffe", str(caffe_wheel)).returncode == 0
    (tmp_path / "layer.py").write_text(
        "import caffe\n"
        "class Twice(caffe.Layer):\n"
        "    def setup(self, bottom, top): pass\n"
        "    def reshape(self, bottom, top): top[0].reshape(*bottom[0].data.shape)\n"
        "    def forward(self, bottom, top): top[0].data[...] = 2 * bottom[0].data\n"
        "    def backward(self, top, down, bottom): bottom[0].diff[...] = 2 * top[0].diff\n"
    )
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "d" type: "DummyData" top: "d" dummy_data_param { shape { dim: 2 dim: 3 }'
        ' data_filler { type: "constant" value: 1.5 } } }\n'
        'layer { name: "p" type: "Python" bottom: "d" top: "p" python_param { module: "layer" layer: "Twice" } }\n'
        'layer { name: "f" type: "InnerProduct" bottom: "p" top: "f" inner_product_param { num_output: 1'
        ' weight_filler { type: "constant" value: 0.5 } } }\n'
        'layer { name: "r" type: "Reduction" bottom: "f" top: "r" loss_weight: 1 }\n'
    )
    (tmp_path / "solver.prototxt").write_text(
        'net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 3 display: 1 snapshot_after_train: false\n'
    )
    bare = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path)}
    done = environment.run("caffe", "train", "--solver", "solver.prototxt", cwd=tmp_path, env=bare)
    assert done.returncode == 0, done.stderr
    assert "Optimization Done." in done.stderr
    # 2 examples of 3 values, each twice 1.5 by the Python layer, times 0.5.
    assert re.search(r"Iteration 0.*loss = 9\n", done.stderr)
    (tmp_path / "layer.py").write_text("raise ImportError('no such thing')\n")
    failed = environment.run("caffe", "train", "--solver", "solver.prototxt", cwd=tmp_path, env=bare)
    assert failed.returncode != 0
    assert "no such thing" in failed.stderr


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("caffe.whl", "is no wheel of Caffe as install-caffe --wheel makes it"),
        (
            "caffebench_caffe-1.0.0-cp39-cp39-manylinux_2_36_x86_64.whl",
            r"is for Python 3\.9, and this is Python 3\.\d+",
        ),
        (f"caffebench_caffe-1.0.0-cp{MINOR}-cp{MINOR}-manylinux_2_36_s390x.whl", "is for another kind of processor"),
        (
            f"caffebench_caffe-1.0.0-cp{MINOR}-cp{MINOR}-manylinux_2_99_{os.uname().machine}.whl",
            r"is for glibc 2\.99 or newer, and this system has 2\.\d+",
        ),
    ],
)
def test_a_wheel_for_elsewhere_is_refused(tmp_path, name, said):
    wheel = tmp_path / name
    with pytest.raises(InputError, match="is not there"):
        install_wheel(wheel, print)
    wheel.touch()
    with pytest.raises(InputError, match=said):
        install_wheel(wheel, print)


def test_without_root_the_wheel_is_named(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(CaffebenchError) as caught:
        system.require_system_packages(print, ["no-such-package-anywhere"], system.WITHOUT_ROOT)
    assert "sudo apt-get install" in str(caught.value)
    assert '"install-caffe --wheel DIR" on a machine that has them' in str(caught.value)
    assert str(caught.value).endswith('"install-caffe WHEEL" here')


@pytest.mark.parametrize("more", [["--cuda"], ["--opencv"], ["--check"], ["some.whl"]])
def test_making_a_wheel_is_one_thing(more, tmp_path):
    done = subprocess.run([HERE / "install-caffe", "--wheel", tmp_path, *more], capture_output=True, text=True)
    assert done.returncode == 2
    assert "--wheel makes a plain Caffe for the CPU" in done.stderr
