"""CUDA for building Caffe: the compiler, the libraries, and getting from the package index what the system lacks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from caffebench.common.errors import CaffebenchError, InputError
from caffebench.common.messages import Announce
from caffebench.engine.build_spec import INCLUDE, BuildSpec
from caffebench.engine.system import pip_install, require_space

__all__ = ["Kit", "choose_architectures", "find_kit", "require_libraries", "runs_on"]


# What a build for all of today's cards holds: each runs on later cards of its generation (8.0 on 8.6 and 8.9), and
# what is newer than all gets the last one's PTX.
_ARCHITECTURES = ("75", "80", "90", "100", "120")

# The compiler, where the system has none, is that of CUDA 13.0: what the build is verified with.
_COMPILER = ["nvcc", "crt", "runtime", "cccl"]
_COMPILER_PACKAGES = [*(f"nvidia-cuda-{part}==13.0.*" for part in _COMPILER), "nvidia-nvvm==13.0.*"]


@dataclass(frozen=True)
class _Library:
    """A library that Caffe links, and the package that has it: ``package`` for CUDA 13, ``package12`` for CUDA 12.

    ``{major}`` and ``{next}`` stand for the compiler's major and next minor version: nothing newer than it is taken.
    ``home`` is where the package is at home below ``nvidia`` in site-packages, in the same two forms.
    """

    name: str
    header: str
    package: str
    package12: str
    home: str
    home12: str

    def requirement(self, version: tuple[int, int]) -> str:
        """What pip is to get for this CUDA."""
        package = self.package12 if version[0] == 12 else self.package
        return package.format(major=version[0], next=version[1] + 1)

    def package_folder(self, major: int) -> Path:
        """Where its package puts ``include`` and ``lib``."""
        home = self.home12 if major == 12 else self.home.format(major=major)
        return _site_packages() / "nvidia" / home


_CUDART = _Library(
    "cudart",
    "cuda_runtime_api.h",
    "nvidia-cuda-runtime<{major}.{next}",
    "nvidia-cuda-runtime-cu12<12.{next}",
    "cu{major}",
    "cuda_runtime",
)
_CUBLAS = _Library(
    "cublas", "cublas_v2.h", "nvidia-cublas<{major}.{next}", "nvidia-cublas-cu12<12.{next}", "cu{major}", "cublas"
)
# cuRAND counts for itself: 10.4.0 came with CUDA 13.0.
_CURAND = _Library("curand", "curand.h", "nvidia-curand<10.4.{next}", "nvidia-curand-cu12", "cu{major}", "curand")
_CUDNN = _Library("cudnn", "cudnn.h", "nvidia-cudnn-cu{major}", "nvidia-cudnn-cu12", "cudnn", "cudnn")
_NCCL = _Library("nccl", "nccl.h", "nvidia-nccl-cu{major}", "nvidia-nccl-cu12", "nccl", "nccl")


def _site_packages() -> Path:
    return Path(sysconfig.get_paths()["platlib"]).resolve()


@dataclass(frozen=True)
class Kit:
    """A CUDA compiler and where it is at home."""

    nvcc: Path
    root: Path
    version: tuple[int, int]
    architectures: tuple[str, ...]
    """What it compiles for, as in ``sm_90``, lowest first."""

    @property
    def release(self) -> str:
        """The version as in ``13.0``."""
        return f"{self.version[0]}.{self.version[1]}"

    def find(self, library: _Library) -> tuple[Path, Path] | None:
        """The include folder and the shared library file, the toolkit's or the package's; None without either.

        What else the system may have is not looked at: it would be for another CUDA as likely as not.
        """
        package = library.package_folder(self.version[0])
        for root in (self.root, package):
            if (root / "include" / library.header).is_file():
                files = sorted(file for lib in ("lib64", "lib") for file in (root / lib).glob(f"lib{library.name}.so*"))
                if files:
                    return root / "include", files[0]
        return None

    def environment(self, spec: BuildSpec) -> dict[str, str]:
        """Variables for the compilers: every include folder, ours first, ahead of the system's own."""
        includes = [include for include, _ in self._found(spec)]
        includes.append(includes[0] / "cccl")  # from CUDA 13 on thrust is there: nvcc knows, the host compiler does not
        paths = dict.fromkeys(str(folder) for folder in (INCLUDE, *includes))
        return {"CPATH": ":".join([*paths, *filter(None, [os.environ.get("CPATH")])])}

    def cmake_arguments(self, spec: BuildSpec) -> list[str]:
        """Arguments for Caffe's CMake files (``cmake/Cuda.cmake``, over CMake's FindCUDA), beside the spec's own."""
        files = {library.name: file for library, (_, file) in zip(_wanted(spec), self._found(spec), strict=True)}
        include = self._found(spec)[0][0]
        arguments = [
            f"-DCUDA_TOOLKIT_ROOT_DIR={self.root}",
            # Without these two FindCUDA takes the root for changed and forgets what is said below.
            f"-DCUDA_TOOLKIT_ROOT_DIR_INTERNAL={self.root}",
            f"-DCUDA_TOOLKIT_TARGET_DIR_INTERNAL={self.root}",
            f"-DCUDA_TOOLKIT_INCLUDE={include}",
            f"-DCUDA_NVCC_EXECUTABLE={self.nvcc}",
            f"-DCUDA_CUDART_LIBRARY={files['cudart']}",
            f"-DCUDA_cublas_LIBRARY={files['cublas']}",
            f"-DCUDA_curand_LIBRARY={files['curand']}",
            "-DCUDA_USE_STATIC_CUDA_RUNTIME=OFF",
            "-DCUDA_ARCH_NAME=Manual",
            f"-DCUDA_ARCH_BIN={' '.join(spec.arch)}",
            f"-DCUDA_ARCH_PTX={spec.arch[-1]}",
            # Handed on to nvcc, the host compiler's -include would come before nvcc's own.
            "-DCUDA_PROPAGATE_HOST_FLAGS=OFF",
            "-DCUDA_NVCC_FLAGS=-std=c++17;-O3;-DNDEBUG;-include;caffe_cuda.h;-Wno-deprecated-gpu-targets",
            # cuDNN marks as deprecated what Caffe calls, and has error codes that Caffe's switch does not name.
            "-DCMAKE_CXX_FLAGS=-include caffe_cuda.h -Wno-deprecated-declarations -Wno-switch",
            f"-DUSE_CUDNN={'ON' if spec.cudnn else 'OFF'}",
            f"-DUSE_NCCL={'ON' if spec.nccl else 'OFF'}",
        ]
        if spec.cudnn:
            # Our cudnn.h, which hands on to the real one (see there).
            arguments += [f"-DCUDNN_INCLUDE={INCLUDE}", f"-DCUDNN_LIBRARY={files['cudnn']}"]
        if spec.nccl:
            nccl = self._found(spec)[-1]
            arguments += [f"-DNCCL_INCLUDE_DIR={nccl[0]}", f"-DNCCL_LIBRARIES={nccl[1]}"]
        return arguments

    def run_folders(self, spec: BuildSpec) -> list[str]:
        """Run-path entries for the libraries of ``spec``; those in site-packages are relative to Caffe's folder.

        Both ``caffe/libcaffe.so`` and ``caffe/bin/caffe`` get them, hence each twice: one and two folders up.
        """
        entries = []
        for folder in (file.parent for _, file in self._found(spec)):
            if folder.is_relative_to(_site_packages()):
                inner = folder.relative_to(_site_packages())
                entries += [f"$ORIGIN/../{inner}", f"$ORIGIN/../../{inner}"]
            else:
                entries.append(str(folder))
        return list(dict.fromkeys(entries))

    def _found(self, spec: BuildSpec) -> list[tuple[Path, Path]]:
        found = [self.find(library) for library in _wanted(spec)]
        missing = [library.name for library, place in zip(_wanted(spec), found, strict=True) if place is None]
        if missing:
            raise CaffebenchError(f"CUDA {self.release} is here without {', '.join(missing)}: run install-caffe again")
        return [place for place in found if place is not None]


def _wanted(spec: BuildSpec) -> list[_Library]:
    return [_CUDART, _CUBLAS, _CURAND, *([_CUDNN] if spec.cudnn else []), *([_NCCL] if spec.nccl else [])]


def find_kit(announce: Announce) -> Kit:
    """The CUDA compiler: ``$CUDACXX``, ``nvcc`` on the PATH, ``$CUDA_HOME``, ``/usr/local/cuda``, else a package's.

    The package is installed into this environment if missing. Raises ``CaffebenchError`` where that fails
    too, or where the toolkit is older than CUDA 12.
    """
    own = os.environ.get("CUDACXX")
    if own and shutil.which(own) is None:
        raise InputError(f"CUDACXX is {own}, which is no program: set it to the nvcc to use, or unset it")
    home = Path(os.environ.get("CUDA_HOME") or "/usr/local/cuda")
    packaged = _site_packages() / "nvidia" / "cu13" / "bin" / "nvcc"
    for candidate in (own, "nvcc", home / "bin" / "nvcc", packaged):
        found = shutil.which(candidate) if candidate else None
        if found is not None:
            return _examine(Path(found))
    announce(
        "there is no nvcc here (looked at CUDACXX, PATH, CUDA_HOME, /usr/local/cuda): taking it from the package index"
    )
    pip_install(_COMPILER_PACKAGES, "install the CUDA toolkit, 12 or 13, and put nvcc on the PATH")
    return _examine(packaged)


def _examine(nvcc: Path) -> Kit:
    version = _ask(nvcc, "--version")
    release = re.search(r"release (\d+)\.(\d+)", version)
    # nvcc may be a link or a script elsewhere: it knows best where its toolkit is.
    top = re.search(r"^#\$ TOP=(.+)$", _ask(nvcc, "--dryrun", "-c", "-x", "cu", os.devnull), re.MULTILINE)
    if release is None or top is None:
        raise CaffebenchError(f"{nvcc} does not answer like nvcc: set CUDACXX to the one to use")
    number = (int(release[1]), int(release[2]))
    if number < (12, 0):
        raise CaffebenchError(f"{nvcc} is of CUDA {release[1]}.{release[2]}, and 12 or 13 is needed: set CUDACXX")
    codes = sorted({int(code) for code in re.findall(r"sm_(\d+)\b", _ask(nvcc, "--list-gpu-code"))})
    return Kit(nvcc, Path(top[1]).resolve(), number, tuple(str(code) for code in codes))


def _ask(nvcc: Path, *options: str) -> str:
    done = subprocess.run([nvcc, *options], capture_output=True, text=True)
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise CaffebenchError(f"{nvcc} {options[0]} fails ({said}): set CUDACXX to a working nvcc")
    return done.stdout + done.stderr


def choose_architectures(asked: Sequence[str], present: Sequence[str], kit: Kit) -> tuple[str, ...]:
    """What to compile for: what was ``asked`` for, else the cards ``present``, else every generation ``kit`` knows.

    Architectures are compute capabilities without the dot ("90"); ``asked`` may have one ("9.0"). Raises
    ``InputError`` for one that this nvcc cannot make.
    """
    chosen = [one.replace(".", "") for one in asked] or list(present)
    if not chosen:
        return tuple(one for one in _ARCHITECTURES if one in kit.architectures)
    for one in chosen:
        if one not in kit.architectures:
            origin = "--arch" if asked else "the card here is of architecture"
            raise InputError(
                f"{origin} {one}: nvcc of CUDA {kit.release} compiles for {', '.join(kit.architectures)}"
                + ("" if asked else "; give one of them with --arch, or use another CUDA toolkit")
            )
    return tuple(sorted(set(chosen), key=int))


def runs_on(built: Sequence[str], card: str) -> bool:
    """Whether a Caffe built for the architectures ``built`` runs on a card of architecture ``card``.

    Machine code runs on later cards of its generation, and the highest architecture is there as PTX too.
    """
    numbers = [int(one) for one in built]
    same_generation = any(one // 10 == int(card) // 10 and one <= int(card) for one in numbers)
    return same_generation or (bool(numbers) and max(numbers) <= int(card))


def require_libraries(spec: BuildSpec, kit: Kit, announce: Announce) -> None:
    """Install into this environment the packages of what ``spec`` needs and neither toolkit nor system has.

    Raises ``CaffebenchError`` where they cannot be had.
    """
    missing = [library.requirement(kit.version) for library in _wanted(spec) if kit.find(library) is None]
    if missing:
        require_space(_site_packages(), 3000)
        announce(f"installing what Caffe needs of CUDA: {' '.join(missing)}")
        pip_install(missing, "install these libraries with the CUDA toolkit, or give pip an index that has them")
