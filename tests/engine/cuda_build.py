"""`make test-cuda-build`: Caffe for CUDA, built for real, tried as far as it goes without a card.

No part of the ordinary tests: it takes minutes, two GB of packages, and nvcc or a package index that has it. Its name
keeps it from being collected. Each build is new, in a cache and an environment of its own, but for what is whole in
the cache that CAFFEBENCH_TEST_CACHE names; time and sizes are printed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from caffebench.datasets.digits import make_digits
from caffebench.engine import build

ARCH = os.environ.get("CAFFEBENCH_TEST_ARCH", "90")

SOLVER = """
net_param {
  layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
    transform_param { scale: 0.00390625 } data_param { source: "digits/train_lmdb" batch_size: 64 backend: LMDB } }
  layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
    transform_param { scale: 0.00390625 } data_param { source: "digits/test_lmdb" batch_size: 90 backend: LMDB } }
  layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param {
    num_output: 16 kernel_size: 3 pad: 1 group: 1 weight_filler { type: "msra" } } }
  layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
  layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_size: 2 stride: 2 } }
  layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param {
    num_output: 10 weight_filler { type: "xavier" } } }
  layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" include { phase: TRAIN } }
  layer { name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "accuracy" include { phase: TEST } }
}
test_iter: 4 test_interval: 500 base_lr: 0.05 momentum: 0.9 lr_policy: "fixed" max_iter: 500 random_seed: 1
snapshot_after_train: false solver_mode: CPU
"""


def size(folder: Path) -> float:
    """MiB of the files below ``folder``."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


@pytest.fixture(scope="module", params=[["--cuda"], ["--cudnn", "--nccl"]], ids=["cuda", "cudnn-nccl"])
def built(request, environment, tmp_path_factory):
    """An environment whose CPU Caffe was replaced by one for CUDA, and what install-caffe said."""
    given = os.environ.get("CAFFEBENCH_TEST_CACHE")
    cache = Path(given) if given else tmp_path_factory.mktemp("cache")
    downloads = build.cache_folder() / "downloads"
    if downloads.is_dir() and not (cache / "downloads").exists():
        shutil.copytree(downloads, cache / "downloads")
    shutil.rmtree(environment.packages / "caffe", ignore_errors=True)
    assert environment.run("install-caffe").returncode == 0  # the CPU build, from the user's cache
    variables = dict(os.environ, CAFFEBENCH_CACHE=str(cache))
    begun = time.monotonic()
    done = environment.run("install-caffe", *request.param, "--arch", ARCH, env=variables)
    seconds = time.monotonic() - begun
    assert done.returncode == 0, done.stderr
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(
            f"\n{' '.join(request.param)} --arch {ARCH}: {seconds / 60:.1f} min, packages and build; "
            f"caffe {size(environment.packages / 'caffe'):.0f} MiB, "
            f"libcaffe.so {(environment.packages / 'caffe/libcaffe.so.1.0.0').stat().st_size / 2**20:.0f} MiB, "
            f"NVIDIA's packages {size(environment.packages / 'nvidia'):.0f} MiB\n  {done.stdout.strip()}"
        )
    return environment, request.param, done, variables


def test_check_says_what_it_is(built):
    environment, options, installed, _ = built
    assert re.search("^(building|taking the) Caffe .*cuda", installed.stderr.splitlines()[-1])  # not left alone
    checked = environment.run("install-caffe", "--check")
    assert checked.returncode == 0, checked.stderr
    libraries = r" and cuDNN \d+\.\d+\.\d+ and NCCL" if "--cudnn" in options else ""
    device = r"(no device|\d+ devices?) here"
    assert re.match(rf"Caffe 1\.0\.0, built for CUDA 1[23]\.\d+{libraries}, {device}, BLAS ", checked.stdout)


def test_it_imports_with_nothing_exported(built):
    environment, options, _, _ = built
    bare = {"env": {"PATH": "/usr/bin:/bin"}}
    done = environment.run("python", "-c", "import caffe; print(caffe.has_nccl())", **bare)
    assert done.stdout == f"{'--nccl' in options}\n", done.stderr
    assert environment.run("caffe", "--version", **bare).stdout == "caffe version 1.0.0\n"


def test_no_symbol_is_undefined(built):
    environment, options, _, _ = built
    folder = environment.packages / "caffe"
    for file in (folder / "libcaffe.so.1.0.0", folder / "_caffe.so", folder / "bin" / "caffe"):
        done = subprocess.run(["ldd", "-r", file], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"})
        assert not re.search("undefined symbol|not found", done.stdout + done.stderr), done.stdout + done.stderr
        assert ("libcudnn" in done.stdout) is ("--cudnn" in options)


def test_it_trains_on_the_cpu(built, tmp_path):
    environment, _, _, _ = built
    make_digits(tmp_path / "digits")
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    done = environment.run("caffe", "train", "-solver", "solver.prototxt", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    accuracy = float(re.findall(r"accuracy = ([\d.]+)", done.stderr)[-1])
    assert accuracy > 0.93


def test_plain_install_leaves_it(built):
    environment, options, _, variables = built
    for more in ([], [*options, "--arch", ARCH]):
        done = environment.run("install-caffe", *more, env=variables)
        assert done.stderr == "already installed\n"


def test_it_is_compiled_for_the_cards_asked_for(built):
    _, _, _, variables = built
    log = next(Path(variables["CAFFEBENCH_CACHE"]).glob("*cuda*.log")).read_text()
    assert f"Added CUDA NVCC flags for: sm_{ARCH} compute_{ARCH}\n" in log


def test_the_compiler_of_the_package_index_compiles(environment, tmp_path):
    """Where there is no nvcc: the packages' one, on one file of Caffe's kind."""
    program = (
        "from caffebench.engine.cuda import find_kit, require_libraries\n"
        "from caffebench.engine.recipe import Recipe\n"
        "kit = find_kit(print)\n"
        "recipe = Recipe(cuda=kit.release, cudnn=True, nccl=True, arch=('90',))\n"
        "require_libraries(recipe, kit, print)\n"
        "print(kit.nvcc, kit.environment(recipe)['CPATH'])\n"
    )
    variables = {"PATH": "/usr/bin:/bin", "CUDA_HOME": str(tmp_path)}
    variables |= {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
    done = environment.run("python", "-c", program, env=variables)
    assert done.returncode == 0, done.stderr
    nvcc, includes = done.stdout.splitlines()[-1].split()
    assert Path(nvcc).is_relative_to(environment.packages)
    source = tmp_path / "x.cu"
    source.write_text("#include <thrust/device_vector.h>\n__global__ void f(float* x) { *x = 1; }\n")
    header = Path(sys.modules["caffebench.engine"].__path__[0]) / "include" / "caffe_cuda.h"
    command = [
        nvcc,
        "-std=c++17",
        "-arch=sm_90",
        "-DUSE_CUDNN",
        "-include",
        header,
        "-c",
        source,
        "-o",
        tmp_path / "x.o",
    ]
    compiled = subprocess.run(command, capture_output=True, text=True, env=variables | {"CPATH": includes})
    assert compiled.returncode == 0, compiled.stderr
