"""`make test-cuda-build`: Caffe for CUDA, built for real, tried as far as it goes without a card.

No part of the ordinary tests: it takes minutes, two GB of packages, and nvcc or a package index that has it. Its name
keeps it from being collected. One build is by the machine's nvcc, where it has one, and one by the compiler of the
package index. Each is new, in a cache and an environment of its own, but for what is whole in the cache that
CAFFEBENCH_TEST_CACHE names; time and sizes are printed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
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


def without_compiler(nowhere: Path) -> dict[str, str]:
    """This process's variables, with which no nvcc of the machine's own is found."""
    variables = {name: value for name, value in os.environ.items() if name != "CUDACXX"}
    folders = [folder for folder in variables["PATH"].split(os.pathsep) if not (Path(folder) / "nvcc").exists()]
    return variables | {"PATH": os.pathsep.join(folders), "CUDA_HOME": str(nowhere)}


@pytest.fixture(scope="module", params=[["--cudnn", "--nccl"], ["--cuda"]], ids=["cudnn-nccl", "packaged-compiler"])
def built(request, environment, tmp_path_factory):
    """An environment whose CPU Caffe was replaced by one for CUDA, and what install-caffe said."""
    given = os.environ.get("CAFFEBENCH_TEST_CACHE")
    cache = Path(given) if given else tmp_path_factory.mktemp("cache")
    packaged = "--cudnn" not in request.param
    downloads = build.cache_folder() / "downloads"
    if downloads.is_dir() and not (cache / "downloads").exists():
        shutil.copytree(downloads, cache / "downloads")
    shutil.rmtree(environment.packages / "caffe", ignore_errors=True)
    assert environment.run("install-caffe").returncode == 0  # the CPU build, from the user's cache
    variables = without_compiler(cache) if packaged else dict(os.environ)
    variables["CAFFEBENCH_CACHE"] = str(cache)
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
        if "--cudnn" not in options:  # where no other compiler is found, all of CUDA is the package index's
            runtime = re.search(r"libcudart\.so\.\d+ => (\S+)", done.stdout)
            assert runtime is not None
            assert Path(runtime[1]).resolve().is_relative_to(environment.packages.resolve() / "nvidia")


def test_it_trains_on_the_cpu(built, tmp_path):
    environment, _, _, _ = built
    make_digits(tmp_path / "digits")
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    done = environment.run("caffe", "train", "-solver", "solver.prototxt", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    accuracy = float(re.findall(r"accuracy = ([\d.]+)", done.stderr)[-1])
    assert accuracy > 0.93


@pytest.mark.parametrize("free", [1, 100_000])
def test_a_run_on_a_card_goes_as_far_as_the_card(built, tmp_path, free):
    """With a stand-in for the driver: the cards are found, what the net needs is counted and compared, and the run is
    given to CUDA's runtime, which refuses a driver that is none."""
    environment, _, _, _ = built
    make_digits(tmp_path / "digits")
    (tmp_path / "small.prototxt").write_text(SOLVER)
    source = Path(__file__).with_name("stand_in_driver.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", tmp_path / "libcuda.so.1", source], check=True)
    variables = dict(os.environ, LD_LIBRARY_PATH=str(tmp_path), STAND_IN_FREE_MIB=str(free))
    done = environment.run("run-caffe", "small.prototxt", "--retries", "0", cwd=tmp_path, env=variables)
    assert done.returncode == 1
    assert "training on GPU 0" in done.stderr
    told = re.search(
        r"^small needs about (\S+) GiB at batch 64, and GPU 0 has 0\.0 GiB free: ", done.stderr, re.MULTILINE
    )
    assert (told is not None) is (free == 1)
    assert "CUDA driver version is insufficient" in done.stderr
    for gpu, message in (("7", "there is no GPU 7 here: valid ids are 0 to 1"), ("0,0", "--gpu 0,0 names a GPU twice")):
        refused = environment.run("run-caffe", "small.prototxt", "--gpu", gpu, cwd=tmp_path, env=variables)
        assert (refused.returncode, refused.stderr) == (2, f"run-caffe: {message}\n")


def test_plain_install_leaves_it(built):
    environment, options, _, variables = built
    for more in ([], [*options, "--arch", ARCH]):
        done = environment.run("install-caffe", *more, env=variables)
        assert done.stderr == "already installed\n"


def test_it_is_compiled_for_the_cards_asked_for(built):
    _, options, _, variables = built
    name = f"*-cuda1[23].[0-9]{'-cudnn-nccl' if '--cudnn' in options else ''}-sm{ARCH}-*.log"
    (file,) = Path(variables["CAFFEBENCH_CACHE"]).glob(name)
    log = file.read_text()
    assert f"Added CUDA NVCC flags for: sm_{ARCH} compute_{ARCH}\n" in log
