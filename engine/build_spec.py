"""What is built: which source, with which options, for which Python. The key of the cache follows from it."""

from __future__ import annotations

import hashlib
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from caffebench.common.errors import CaffebenchError

__all__ = [
    "CAFFE_VERSION",
    "FAST_PACKAGES",
    "INCLUDE",
    "LEVELDB_PACKAGES",
    "OPENCV_PACKAGES",
    "PYTHON_PACKAGES",
    "SOURCE",
    "SOURCE_SHA256",
    "BuildSpec",
    "debian_packages",
    "leveldb_is_here",
    "opencv_is_here",
    "shared_libpython",
]

CAFFE_VERSION = "1.0.0"

# BVLC Caffe 1.0 at its last commit (9b89154), as a source package. Later versions under this name are another
# fork (SSD); its own setup.py wants conda and is not what we build with.
SOURCE = "brocolli-caffe==3.0.0"
SOURCE_SHA256 = "ad7ba487552f4343df25044a9fa14812a96add48ea2ff993b53bf2dafe8248e2"

# What Caffe's CMake files look for, without OpenCV and LevelDB, by Debian's names.
_DEBIAN_PACKAGES = [
    "g++",
    "make",
    "cmake",
    "libboost-python-dev",
    "libboost-system-dev",
    "libboost-thread-dev",
    "libboost-filesystem-dev",
    "libprotobuf-dev",
    "protobuf-compiler",
    "libopenblas-dev",
    "libgoogle-glog-dev",
    "libgflags-dev",
    "libhdf5-dev",
    "liblmdb-dev",
]

# What the fast layers are built on (`engine.fast`), by Debian's names. Debian's oneDNN and not the package index's:
# that one is a release of 2023, or wants the compiler runtime of its maker.
FAST_PACKAGES = ["libdnnl-dev"]

# What Caffe decodes images with, and reads LevelDB with, by Debian's names. OpenCV's other modules are not needed
# (`include/opencv`).
OPENCV_PACKAGES = ["libopencv-imgcodecs-dev"]
LEVELDB_PACKAGES = ["libleveldb-dev", "libsnappy-dev"]

INCLUDE = Path(__file__).resolve().parent / "include"
"""Headers of ours that stand between Caffe and libraries newer than it."""

# What `import caffe` needs, and SciPy, which the launcher's initialisation calls: import name -> package.
PYTHON_PACKAGES = {
    "numpy": "numpy",
    "google.protobuf": "protobuf",
    "six": "six",
    "skimage": "scikit-image",
    "scipy": "scipy",
}


@dataclass(frozen=True)
class BuildSpec:
    """One Caffe for one kind of Python; equal specs give interchangeable builds."""

    python: str = field(default_factory=lambda: f"{sys.version_info.major}.{sys.version_info.minor}")
    numpy_major: str = field(default_factory=lambda: metadata.version("numpy").split(".")[0])
    cuda: str | None = None
    """The CUDA release that it is built with ("13.0"); None builds for the CPU only."""
    cudnn: bool = False
    nccl: bool = False
    arch: tuple[str, ...] = ()
    """The cards' architectures, lowest first, as compute capabilities without the dot: "90" for 9.0."""
    opencv: bool = False
    leveldb: bool = False

    @property
    def options(self) -> str:
        """The build options in one word, as they stand in the cache's key."""
        data = ("-opencv" if self.opencv else "") + ("-leveldb" if self.leveldb else "")
        if self.cuda is None:
            return f"cpu{data}"
        libraries = ("-cudnn" if self.cudnn else "") + ("-nccl" if self.nccl else "")
        return f"cuda{self.cuda}{libraries}{data}-sm{'.'.join(self.arch)}"

    @property
    def packages(self) -> list[str]:
        """What the build needs of the system, by Debian's names."""
        return [
            *debian_packages(),
            *(OPENCV_PACKAGES if self.opencv else []),
            *(LEVELDB_PACKAGES if self.leveldb else []),
        ]

    @property
    def key(self) -> str:
        """The cache's folder name: Caffe version, Python minor, NumPy major, options; for CUDA our headers too."""
        key = f"caffe-{CAFFE_VERSION}-py{self.python}-numpy{self.numpy_major}-{self.options}"
        if self.cuda is None:
            return key
        headers = b"".join(file.read_bytes() for file in sorted(INCLUDE.glob("*.h")))
        return f"{key}-{hashlib.sha256(headers).hexdigest()[:8]}"

    def cmake_arguments(self, library: Path) -> list[str]:
        """Arguments for Caffe's own CMake files; ``library`` is the shared libpython. A `Kit` adds those for CUDA.

        The run path is not set here: Caffe's ``cmake/Misc.cmake`` overwrites it. ``CMAKE_SKIP_RPATH`` leaves it
        to the linker, which takes it from ``LD_RUN_PATH`` (see `run_path`).
        """
        return [
            "-DCMAKE_BUILD_TYPE=Release",
            f"-DCMAKE_CXX_STANDARD={14 if self.cuda is None else 17}",  # CUDA 13's own headers want 17
            "-DCMAKE_SKIP_RPATH=ON",
            f"-DCPU_ONLY={'ON' if self.cuda is None else 'OFF'}",
            f"-DUSE_OPENCV={'ON' if self.opencv else 'OFF'}",
            f"-DOpenCV_DIR={INCLUDE / 'opencv'}",
            f"-DUSE_LEVELDB={'ON' if self.leveldb else 'OFF'}",
            "-DBUILD_docs=OFF",
            "-DBLAS=Open",
            "-Dpython_version=3",
            f"-DPYTHON_EXECUTABLE={sys.executable}",
            f"-DPYTHON_INCLUDE_DIR={sysconfig.get_paths()['include']}",
            f"-DPYTHON_LIBRARY={library}",
        ]

    def run_path(self, library: Path, more: Sequence[str] = ()) -> str:
        """Where the built files find each other (``_caffe.so`` beside itself, ``bin/caffe`` one up), and ``more``."""
        return ":".join(["$ORIGIN", "$ORIGIN/..", *more, str(library.parent)])


def debian_packages() -> list[str]:
    """Debian's names of what every build needs; for Debian's own Python, its headers and shared library too."""
    if sys.base_prefix != "/usr":
        return _DEBIAN_PACKAGES
    return [*_DEBIAN_PACKAGES, f"libpython{sys.version_info.major}.{sys.version_info.minor}-dev"]


def opencv_is_here() -> bool:
    """Whether the system has what a build with OpenCV needs."""
    return _has("opencv4/opencv2/imgcodecs.hpp", "opencv_imgcodecs")


def leveldb_is_here() -> bool:
    """Whether the system has what a build with LevelDB needs."""
    return _has("leveldb/db.h", "leveldb") and _has("snappy.h", "snappy")


def _has(header: str, library: str) -> bool:
    """Whether the compiler finds ``header`` and the linker ``library``."""
    prefixes = [Path(folder) for folder in ("/usr", "/usr/local", sys.base_prefix)]
    folders = [f"lib/{sysconfig.get_config_var('MULTIARCH')}", "lib64", "lib"]
    return any((prefix / "include" / header).is_file() for prefix in prefixes) and any(
        (prefix / folder / f"lib{library}.so").exists() for prefix in prefixes for folder in folders
    )


def shared_libpython() -> Path:
    """The interpreter's ``libpython3.x.so``, which Caffe's Python layer links.

    Raises ``CaffebenchError`` where this Python was built without it or lacks its headers.
    """
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if not header.is_file():
        raise CaffebenchError(f"the headers of Python {minor} are missing ({header}): install python{minor}-dev")
    names = (f"libpython{minor}.so", f"libpython{minor}.so.1.0")
    folders = [f"{sys.base_prefix}/lib", f"/usr/lib/{sysconfig.get_config_var('MULTIARCH')}"]
    folders.insert(0, str(sysconfig.get_config_var("LIBDIR")))
    for path in (Path(folder) / name for folder in folders for name in names):
        if path.is_file():
            return path
    raise CaffebenchError(
        f"{sys.executable} has no shared libpython{minor}.so, which Caffe's Python layer links: "
        f"install libpython{minor}-dev, or use a Python built with --enable-shared"
    )
