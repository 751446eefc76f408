"""`install-caffe --opencv --leveldb`: what is asked for, what stays, and real training on images, where it is built."""

from __future__ import annotations

from pathlib import Path

import lmdb
import numpy as np
import pytest
from PIL import Image

from caffebench.engine import build, install
from caffebench.engine.build_spec import LEVELDB_PACKAGES, OPENCV_PACKAGES, BuildSpec
from caffebench.engine.install import BuildOptions

BUILT = build.cache_folder() / BuildSpec(opencv=True, leveldb=True).key
OPTIONS = ("--opencv", "--leveldb")


def test_options_are_in_the_key_and_bring_their_packages():
    specs = [BuildSpec(opencv=opencv, leveldb=leveldb) for opencv in (False, True) for leveldb in (False, True)]
    assert [one.options for one in specs] == ["cpu", "cpu-leveldb", "cpu-opencv", "cpu-opencv-leveldb"]
    assert set(specs[3].packages) - set(specs[0].packages) == {*OPENCV_PACKAGES, *LEVELDB_PACKAGES}
    assert BuildSpec(cuda="13.0", arch=("90",), opencv=True).options == "cuda13.0-opencv-sm90"
    assert "-DUSE_OPENCV=ON" in specs[2].cmake_arguments(Path("libpython3.11.so"))
    assert "-DUSE_LEVELDB=OFF" in specs[2].cmake_arguments(Path("libpython3.11.so"))


@pytest.mark.parametrize("here", [False, True])
def test_what_is_not_said_stays_as_it_is(monkeypatch, here):
    monkeypatch.setattr(install, "opencv_is_here", lambda: here)
    monkeypatch.setattr(install, "leveldb_is_here", lambda: here)
    nothing = install._completed(BuildOptions(), BuildOptions())
    assert (nothing.opencv, nothing.leveldb) == (here, here)
    has = BuildOptions(True, True, False, ("90",), opencv=False, leveldb=True)
    assert install._completed(BuildOptions(), has) == has
    asked = install._completed(BuildOptions(opencv=True), has)
    assert asked == BuildOptions(True, True, False, ("90",), opencv=True, leveldb=True)
    assert install._completed(BuildOptions(opencv=False, leveldb=False), BuildOptions()).opencv is False


@pytest.fixture(scope="module")
def with_opencv(environment):
    """An environment with the Caffe that has both, from the cache."""
    if not (BUILT / "caffe" / build.MANIFEST).is_file():
        pytest.skip("no Caffe with OpenCV and LevelDB is in the cache: install-caffe --opencv --leveldb builds one")
    done = environment.run("install-caffe", *OPTIONS)
    assert done.returncode == 0, done.stderr
    return environment


@pytest.mark.slow
def test_check_says_what_is_in(with_opencv):
    assert ", OpenCV, LevelDB, " in with_opencv.run("install-caffe", "--check").stdout
    assert "already installed" in with_opencv.run("install-caffe").stderr
    assert "already installed" in with_opencv.run("install-caffe", *OPTIONS).stderr


NET = """
net_param {
  layer { %s top: "data" top: "label" transform_param { scale: 0.0039 %s } }
  layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param {
    num_output: 2 weight_filler { type: "xavier" } } }
  layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
}
base_lr: 0.1 lr_policy: "fixed" max_iter: 40 display: 20 random_seed: 1 solver_mode: CPU snapshot_prefix: "trained"
"""
LAST = "import caffe; s = caffe.get_solver('solver.prototxt'); s.step(40); print(float(s.net.blobs['loss'].data))"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Forty JPEGs, bright and dark, a list of them, a list of windows in them, and an LMDB of the files."""
    random = np.random.default_rng(1)
    with lmdb.open(str(tmp_path / "encoded"), map_size=1 << 24) as environment, environment.begin(write=True) as to:
        lines, windows = [], []
        for number in range(40):
            bright = number % 2
            pixels = random.integers(120 * bright, 120 * bright + 100, (20, 24, 3))
            file = tmp_path / f"{number}.jpg"
            Image.fromarray(pixels.astype("u1")).save(file, quality=95)
            lines.append(f"{file} {bright}")
            windows.append(f"# {number}\n{file}\n3\n20\n24\n1\n1 {0.9 if bright else 0.1} 2 2 17 17")
            to.put(b"%04d" % number, datum_of(file.read_bytes(), bright))
    (tmp_path / "list.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "windows.txt").write_text("\n".join(windows) + "\n")
    return tmp_path


def datum_of(data: bytes, label: int) -> bytes:
    from caffebench.engine.messages import caffe_messages

    return bytes(caffe_messages().Datum(data=data, encoded=True, label=label).SerializeToString())


SOURCES = {
    "ImageData": (
        'name: "d" type: "ImageData" image_data_param { source: "list.txt" batch_size: 20 '
        "new_height: 16 new_width: 16 }",
        "",
    ),
    "WindowData": (
        'name: "d" type: "WindowData" window_data_param { source: "windows.txt" batch_size: 20 fg_threshold: 0.5 '
        'bg_threshold: 0.5 fg_fraction: 0.5 context_pad: 0 crop_mode: "warp" }',
        "crop_size: 16 mirror: true mean_value: 110",  # without a mean this layer does not scale
    ),
    "encoded LMDB": (
        'name: "d" type: "Data" data_param { source: "encoded" batch_size: 20 backend: LMDB }',
        "crop_size: 16",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
def test_images_train(with_opencv, images: Path, source: str):
    """Two classes that differ in brightness: the loss falls far below chance, 0.69."""
    (images / "solver.prototxt").write_text(NET % SOURCES[source])
    done = with_opencv.run("python", "-c", LAST, cwd=images)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < 0.3


@pytest.mark.slow
def test_run_caffe_takes_what_this_caffe_can(with_opencv, images: Path):
    (images / "solver.prototxt").write_text(NET % SOURCES["ImageData"])
    done = with_opencv.run("run-caffe", "solver.prototxt", cwd=images)
    assert done.returncode == 0, done.stderr
