"""CUDA builds as far as no compiler is needed: options, cache key, CMake's arguments, what is missing and said.

The build itself takes minutes and is `make test-cuda-build`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from pathlib import Path

import pytest

from caffebench.common.errors import CaffebenchError, InputError
from caffebench.engine import cuda
from caffebench.engine.build import MANIFEST
from caffebench.engine.build_spec import BuildSpec
from caffebench.engine.cuda import Kit, choose_architectures, find_kit, require_libraries, runs_on


def toolkit(root: Path, *libraries: str, release: str = "13.0", codes: str = "sm_75 sm_80 sm_90 sm_100") -> Path:
    """A toolkit's folder with a stand-in for nvcc that answers what we ask, and empty headers and libraries."""
    nvcc = root / "bin" / "nvcc"
    for folder in ("bin", "include", "lib64"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    nvcc.write_text(
        f"""#!/bin/sh
case $1 in
    --version) echo 'Cuda compilation tools, release {release}, V{release}.88' ;;
    --dryrun) echo '#$ TOP={root}/bin/..' >&2 ;;
    --list-gpu-code) printf '%s\\n' {codes} ;;
esac
"""
    )
    nvcc.chmod(nvcc.stat().st_mode | stat.S_IXUSR)
    headers = {library.name: library.header for library in (cuda._CUDART, cuda._CUBLAS, cuda._CURAND, cuda._NCCL)}
    headers |= {"cudnn": "cudnn.h"}
    for library in libraries:
        (root / "include" / headers[library]).touch()
        (root / "lib64" / f"lib{library}.so").touch()
    return root


def broken_compiler(folder: Path) -> Path:
    nvcc = folder / "nvcc"
    nvcc.write_text("#!/bin/sh\necho no license >&2\nexit 1\n")
    nvcc.chmod(0o755)
    return nvcc


def kit_of(root: Path, monkeypatch: pytest.MonkeyPatch) -> Kit:
    monkeypatch.setenv("CUDACXX", str(root / "bin" / "nvcc"))
    return find_kit(print)


def test_the_options_are_the_key():
    assert BuildSpec(python="3.11", numpy_major="2").key == "caffe-1.0.0-py3.11-numpy2-cpu"
    gpu = BuildSpec(python="3.11", numpy_major="2", cuda="13.0", cudnn=True, nccl=True, arch=("80", "90"))
    assert re.fullmatch(r"caffe-1\.0\.0-py3\.11-numpy2-cuda13\.0-cudnn-nccl-sm80\.90-[0-9a-f]{8}", gpu.key)
    options = [{}, {"cudnn": True}, {"nccl": True}, {"arch": ("90",)}, {"cuda": "12.8"}]
    keys = {BuildSpec(**({"cuda": "13.0", "arch": ("80",)} | change)).key for change in options}
    assert len(keys) == len(options)


def test_cmake_is_told_what_is_built(tmp_path, monkeypatch):
    library = tmp_path / "libpython.so"
    assert "-DCPU_ONLY=ON" in BuildSpec().cmake_arguments(library)
    root = toolkit(tmp_path / "cuda", "cudart", "cublas", "curand", "cudnn", "nccl")
    kit = kit_of(root, monkeypatch)
    spec = BuildSpec(cuda=kit.release, cudnn=True, nccl=True, arch=("80", "90"))
    arguments = dict(
        one.removeprefix("-D").split("=", 1) for one in spec.cmake_arguments(library) + kit.cmake_arguments(spec)
    )
    assert arguments["CPU_ONLY"] == "OFF"
    assert arguments["CMAKE_CXX_STANDARD"] == "17"
    assert (arguments["CUDA_ARCH_BIN"], arguments["CUDA_ARCH_PTX"]) == ("80 90", "90")
    assert arguments["CUDA_cublas_LIBRARY"] == str(root / "lib64" / "libcublas.so")
    assert arguments["CUDNN_LIBRARY"] == str(root / "lib64" / "libcudnn.so")
    assert arguments["NCCL_LIBRARIES"] == str(root / "lib64" / "libnccl.so")
    forced = arguments["CMAKE_CXX_FLAGS"].split()[1]
    assert forced in arguments["CUDA_NVCC_FLAGS"].split(";")
    ours = Path(kit.environment(spec)["CPATH"].split(":")[0])
    assert (ours / forced).is_file()
    # What Caffe's cmake/Cuda.cmake looks for in the cudnn.h of this folder.
    assert "define CUDNN_MAJOR 9" in (Path(arguments["CUDNN_INCLUDE"]) / "cudnn.h").read_text()
    assert kit.run_folders(spec) == [str(root / "lib64")]

    without = BuildSpec(cuda=kit.release, arch=("90",))
    arguments = kit.cmake_arguments(without)
    assert {"-DUSE_CUDNN=OFF", "-DUSE_NCCL=OFF"} <= set(arguments)
    assert not [one for one in arguments if "nccl" in one.lower() and "=/" in one]


def test_libraries_of_packages_are_found_beside_caffe(tmp_path, monkeypatch):
    packages = tmp_path / "site-packages"
    monkeypatch.setattr(cuda, "_site_packages", lambda: packages)
    kit = kit_of(toolkit(tmp_path / "cuda", "cudart", "curand"), monkeypatch)
    for folder, header, library in (("cu13", "cublas_v2.h", "libcublas.so.13"), ("cudnn", "cudnn.h", "libcudnn.so.9")):
        for inner, name in (("include", header), ("lib", library)):
            (packages / "nvidia" / folder / inner).mkdir(parents=True)
            (packages / "nvidia" / folder / inner / name).touch()
    spec = BuildSpec(cuda=kit.release, cudnn=True, arch=("90",))
    assert kit.run_folders(spec) == [
        str(tmp_path / "cuda" / "lib64"),
        "$ORIGIN/../nvidia/cu13/lib",
        "$ORIGIN/../../nvidia/cu13/lib",
        "$ORIGIN/../nvidia/cudnn/lib",
        "$ORIGIN/../../nvidia/cudnn/lib",
    ]
    assert f"-DCUDA_cublas_LIBRARY={packages}/nvidia/cu13/lib/libcublas.so.13" in kit.cmake_arguments(spec)
    assert str(packages / "nvidia/cudnn/include") in kit.environment(spec)["CPATH"].split(":")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("release", "wanted"),
    [
        ("13.0", ["nvidia-cublas<13.1", "nvidia-curand<10.4.1", "nvidia-cudnn-cu13", "nvidia-nccl-cu13"]),
        ("12.8", ["nvidia-cublas-cu12<12.9", "nvidia-curand-cu12", "nvidia-cudnn-cu12", "nvidia-nccl-cu12"]),
    ],
)
def test_what_is_missing_is_asked_of_the_package_index(tmp_path, monkeypatch, release, wanted):
    monkeypatch.setattr(cuda, "_site_packages", lambda: tmp_path / "site-packages")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    kit = kit_of(toolkit(tmp_path / "cuda", "cudart", release=release), monkeypatch)
    said: list[str] = []
    with pytest.raises(CaffebenchError, match="pip could not install nvidia-cublas"):
        require_libraries(BuildSpec(cuda=release, cudnn=True, nccl=True, arch=("90",)), kit, said.append)
    assert said == [f"installing what Caffe needs of CUDA: {' '.join(wanted)}"]


def test_architectures_are_those_asked_for_or_present_or_all(tmp_path, monkeypatch):
    kit = kit_of(toolkit(tmp_path / "cuda"), monkeypatch)
    assert kit.architectures == ("75", "80", "90", "100")
    assert choose_architectures(["9.0", "80"], ["75"], kit) == ("80", "90")
    assert choose_architectures([], ["90", "90"], kit) == ("90",)
    assert choose_architectures([], [], kit) == ("75", "80", "90", "100")
    with pytest.raises(InputError, match=r"^--arch 35: nvcc of CUDA 13\.0 compiles for 75, 80, 90, 100$"):
        choose_architectures(["35"], [], kit)
    with pytest.raises(InputError, match=r"^the card here is of architecture 61: .* or use another CUDA toolkit$"):
        choose_architectures([], ["61"], kit)


@pytest.mark.parametrize(
    ("built", "card", "runs"),
    [
        (["80"], "86", True),  # machine code of the same generation
        (["86"], "80", False),
        (["90"], "120", True),  # PTX
        (["75", "90"], "80", False),  # PTX is there for the highest only
        (["75", "90"], "75", True),
    ],
)
def test_which_cards_a_build_runs_on(built, card, runs):
    assert runs_on(built, card) is runs


def test_an_old_or_broken_compiler_is_refused(tmp_path, monkeypatch):
    with pytest.raises(CaffebenchError, match=r"is of CUDA 11\.8, and 12 or 13 is needed: set CUDACXX"):
        kit_of(toolkit(tmp_path / "old", release="11.8"), monkeypatch)
    monkeypatch.setenv("CUDACXX", "/bin/true")
    with pytest.raises(CaffebenchError, match=r"^/bin/true does not answer like nvcc"):
        find_kit(print)
    monkeypatch.setenv("CUDACXX", str(broken_compiler(tmp_path)))
    with pytest.raises(CaffebenchError, match=r"nvcc --version fails \(no license\): set CUDACXX to a working nvcc$"):
        find_kit(print)
    monkeypatch.setenv("CUDACXX", "nowhere/nvcc")
    with pytest.raises(InputError, match=r"CUDACXX is nowhere/nvcc, which is no program"):
        find_kit(print)


def test_no_compiler_and_no_index_is_one_line(environment, tmp_path):
    variables = {
        "PATH": "/usr/bin:/bin",
        "CUDA_HOME": str(tmp_path),
        "CAFFEBENCH_CACHE": str(tmp_path),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path),
        "PIP_CONFIG_FILE": os.devnull,
    }
    environment.run("python", "-m", "pip", "install", "--quiet", "six", "scikit-image")
    done = environment.run("install-caffe", "--cuda", env=variables)
    assert done.returncode == 1
    announced, error = done.stderr.splitlines()
    assert announced.startswith("there is no nvcc here")
    assert error.startswith("install-caffe: pip could not install nvidia-cuda-nvcc==13.0.*")
    assert error.endswith("install the CUDA toolkit, 12 or 13, and put nvcc on the PATH")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--arch", "90"], "--arch is for GPU builds: add --cuda"),
        (
            ["--cuda", "--arch", "sm_90"],
            "--arch sm_90: give compute capabilities separated by commas, as in 90 or 80,90",
        ),
        (["--cudnn", "--arch", "90,,80"], "--arch : give compute capabilities"),
    ],
)
def test_wrong_options_are_refused(environment, options, message):
    done = environment.run("install-caffe", *options)
    assert done.returncode == 2
    assert done.stderr.startswith(f"install-caffe: {message}")


def test_a_caffe_that_serves_is_left_and_another_is_replaced(environment, tmp_path):
    """With a CPU build that is made to say that it is for CUDA: what is read is the manifest, not the library."""
    assert environment.run("install-caffe").returncode == 0
    manifest = environment.packages / "caffe" / MANIFEST
    kept = manifest.read_text()
    library = manifest.parent / "_caffe.so"
    shutil.copy2(library, tmp_path)
    stuck = dict(os.environ, CUDACXX=str(broken_compiler(tmp_path)))  # whoever starts to build fails at once

    def ask(*options: str) -> str:
        return environment.run("install-caffe", *options, env=stuck).stderr.splitlines()[0]

    left, replaced = "already installed", f"install-caffe: {tmp_path}/nvcc --version fails"
    try:
        assert ask("--cuda").startswith(replaced)
        manifest.write_text(json.dumps(json.loads(kept) | {"cuda": "13.0", "cudnn": True, "arch": ["80", "90"]}))
        assert ask() == left
        assert ask("--cuda", "--arch", "9.0") == left
        assert ask("--cudnn", "--arch", "80,90") == left
        assert ask("--cuda", "--arch", "120").startswith(replaced)
        assert ask("--nccl", "--arch", "90").startswith(replaced)
        # Damaged, it is to become again what it was.
        os.truncate(library, 1000)
        assert ask().startswith(replaced)
    finally:
        shutil.copy2(tmp_path / library.name, library)
        manifest.write_text(kept)
