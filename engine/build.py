"""Building Caffe into the cache: source package, CMake, make, and a folder that is published only when whole."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from caffebench.common.errors import CaffebenchError
from caffebench.common.files import write_whole
from caffebench.common.isolated import module_command
from caffebench.common.messages import Announce, detail
from caffebench.engine.build_spec import CAFFE_VERSION, SOURCE, SOURCE_SHA256, BuildSpec, shared_libpython
from caffebench.engine.cuda import Kit
from caffebench.engine.system import WITHOUT_ROOT, require_boost_python, require_space, require_system_packages

__all__ = ["MANIFEST", "cache_folder", "cached_build", "is_whole", "lock", "source_package", "unpack"]

MANIFEST = "caffebench.json"
Advance = Callable[[float], None]


def cache_folder() -> Path:
    """Where builds are kept: ``$CAFFEBENCH_CACHE``, else ``caffebench`` in the user's cache folder."""
    own = os.environ.get("CAFFEBENCH_CACHE")
    if own:
        return Path(own).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "caffebench"


@contextmanager
def lock(path: Path, announce: Announce) -> Iterator[None]:
    """Hold ``path`` (a file, made if missing, or a folder) against other installs; the system frees it at exit."""
    if not path.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    handle = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            announce("another install-caffe is at work here: waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def is_whole(folder: Path) -> bool:
    """Whether ``folder`` is a Caffe of ours with every file at its full size."""
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
        return all((folder / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False


def cached_build(
    spec: BuildSpec, kit: Kit | None, jobs: int, announce: Announce, advance: Advance, *, fresh: bool = False
) -> tuple[Path, bool]:
    """The whole ``caffe`` package folder for ``spec``, built first if the cache has none.

    Returns the folder and whether it had to be built. ``kit`` is the CUDA to build with, None for the CPU only.
    ``fresh`` builds anew. ``advance`` gets the done fraction, 0 to 1. Raises ``CaffebenchError``; an interruption
    leaves the cache as it was.
    """
    cache = cache_folder()
    product = cache / spec.key / "caffe"
    with lock(cache / f"{spec.key}.lock", announce):
        if is_whole(product) and not fresh:
            return product, False
        require_system_packages(announce, spec.packages, WITHOUT_ROOT)
        require_boost_python()
        library = shared_libpython()
        require_space(cache, 500 if kit is None else 1000)
        # What a killed build left behind is cleared, not reused: an object file may have been cut in the middle,
        # and its last compilers may still be writing, hence a new name each time.
        rooms = cache / f"{spec.key}.work"
        shutil.rmtree(rooms, ignore_errors=True)
        rooms.mkdir(exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=rooms))
        try:
            source = unpack(source_package(cache / "downloads", announce), work)
            # Line by line: it is what a user looks at to see how far the compiler is.
            with (cache / f"{spec.key}.log").open("w", buffering=1) as log:
                announce(f"building Caffe {CAFFE_VERSION} ({spec.options}, {jobs} jobs); the log is {log.name}")
                built = _compile(spec, kit, source, library, jobs, log, advance)
            whole = _assemble(spec, source, built, work / "caffe")
            shutil.rmtree(product.parent, ignore_errors=True)
            product.parent.mkdir(parents=True)
            whole.rename(product)
        finally:
            shutil.rmtree(rooms, ignore_errors=True)
    return product, True


def source_package(downloads: Path, announce: Announce) -> Path:
    """The source package, from ``downloads`` or through pip, which knows the user's index and proxy settings."""
    name, _, version = SOURCE.partition("==")
    path = downloads / f"{name}-{version}.tar.gz"
    if path.is_file():
        return path
    announce(f"downloading the source package {SOURCE}")
    arriving = downloads / "arriving"
    shutil.rmtree(arriving, ignore_errors=True)
    requirements = downloads / "requirements.txt"
    write_whole(requirements, f"{SOURCE} --hash=sha256:{SOURCE_SHA256}\n")
    command = module_command("pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--require-hashes")
    command += ["--disable-pip-version-check", "--dest", str(arriving), "--requirement", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if "ERROR" in line] or done.stderr.splitlines() or ["no word"]
        raise CaffebenchError(
            f"cannot download {SOURCE} (pip: {said[-1].strip()}): "
            f"check the network, or put {path.name} into {downloads}"
        )
    (arriving / path.name).replace(path)
    return path


def unpack(package: Path, work: Path) -> Path:
    """Caffe's source, out of ``package`` into ``work``: its folder there.

    Raises ``CaffebenchError`` where the package is damaged, and removes it.
    """
    try:
        with tarfile.open(package) as archive:
            if hasattr(tarfile, "data_filter"):  # not yet in Python 3.11.2, Debian 12's
                archive.extraction_filter = tarfile.data_filter
            archive.extractall(work)  # noqa: S202 - its checksum is known
    except (tarfile.TarError, EOFError) as error:
        package.unlink()
        raise CaffebenchError(f"{package} was damaged ({error}) and is removed: run install-caffe again") from error
    source = work / package.name.removesuffix(".tar.gz")
    # The source package lacks Caffe's examples, which its CMake files name.
    (source / "examples").mkdir()
    (source / "examples" / "CMakeLists.txt").touch()
    return source


def _compile(
    spec: BuildSpec, kit: Kit | None, source: Path, library: Path, jobs: int, log: TextIO, advance: Advance
) -> Path:
    environment = os.environ | {"LC_ALL": "C"} | (kit.environment(spec) if kit else {})
    environment["LD_RUN_PATH"] = spec.run_path(library, kit.run_folders(spec) if kit else [])
    build = _configure(spec, kit, source, library, environment, log)
    _run(["make", f"-j{jobs}", "pycaffe", "caffe.bin"], build, environment, log, advance)
    return build


def _configure(
    spec: BuildSpec, kit: Kit | None, source: Path, library: Path, environment: dict[str, str], log: TextIO
) -> Path:
    """Let CMake make its files; their folder, beside ``source``."""
    import numpy as np

    build = source.parent / "build"
    # This folder comes first when headers are looked for. Without it those of a NumPy that Debian installed beside
    # Python's own headers would be taken, and the result would not import with the NumPy of this environment.
    (build / "include").mkdir(parents=True)
    (build / "include" / "numpy").symlink_to(Path(np.get_include()) / "numpy")
    arguments = spec.cmake_arguments(library) + (kit.cmake_arguments(spec) if kit else [])
    _run(["cmake", *arguments, str(source)], build, environment, log, lambda done: None)
    return build


def _run(command: list[str], build: Path, environment: dict[str, str], log: TextIO, advance: Advance) -> None:
    detail(f"running {' '.join(command)}")
    # A process group of its own, so that an interruption ends every compiler and not only make.
    process = subprocess.Popen(
        command, cwd=build, env=environment, text=True, errors="replace",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None  # noqa: S101 - for the type checker: stdout is a pipe
        for line in process.stdout:
            log.write(line)
            percent = re.match(r"\[\s*(\d+)%\]", line)
            if percent:
                advance(int(percent[1]) / 100)
    except BaseException:
        os.killpg(process.pid, 15)
        raise
    finally:
        process.wait()
    if process.returncode != 0:
        raise CaffebenchError(f"{command[0]} failed: {_first_error(Path(log.name))}; the whole output is in {log.name}")


def _first_error(log: Path) -> str:
    """The line of a build log that says what went wrong, in a compiler's, make's, CMake's or the system's words."""
    lines = log.read_text(errors="replace").splitlines()
    for pattern in (r"No space left on device", r"\berror:|fatal error", r"CMake Error", r"\*\*\*"):
        for number, line in enumerate(lines):
            if re.search(pattern, line):
                # CMake says where in the first line, and what in the next that is not empty.
                told = (
                    [text.strip() for text in lines[number + 1 :] if text.strip()] if "CMake Error at" in line else []
                )
                return told[0] if told else line.strip()
    return lines[-1].strip() if lines else "it printed nothing"


def _assemble(spec: BuildSpec, source: Path, built: Path, folder: Path) -> Path:
    """Gather what was built into one package folder, like Caffe's own ``make install`` does over three."""
    package = source / "python" / "caffe"
    shutil.copytree(
        package, folder, symlinks=False, ignore=shutil.ignore_patterns("test", "*.cpp", "*.so", "__pycache__")
    )
    shutil.copy2(built / "lib" / "_caffe.so", folder)
    shutil.copy2((built / "lib" / "libcaffe.so").resolve(), folder)
    (folder / "bin").mkdir()
    shutil.copy2(built / "tools" / "caffe", folder / "bin")
    shutil.copy2(source / "LICENSE", folder)
    files = {str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}
    manifest = {
        "caffe": CAFFE_VERSION,
        "source": SOURCE,
        "key": spec.key,
        "options": spec.options,
        "cuda": spec.cuda,
        "cudnn": spec.cudnn,
        "nccl": spec.nccl,
        "arch": spec.arch,
        "opencv": spec.opencv,
        "leveldb": spec.leveldb,
        "files": files,
    }
    write_whole(folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    return folder
