"""Building the fast layers: Caffe's headers from its source package, our C++ files, one shared library."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from caffebench.common.errors import CaffebenchError
from caffebench.common.messages import Announce, detail
from caffebench.engine.build import cache_folder, lock, source_package, unpack
from caffebench.engine.fast import LIBRARY

__all__ = ["build_fast_layers", "caffe_headers", "run_compiler"]


# The language is Caffe's own build's; -fno-math-errno lets square roots become vector instructions.
_COMPILE = ["g++", "-std=c++14", "-O3", "-fno-math-errno", "-fPIC", "-fopenmp", "-DCPU_ONLY", "-DUSE_LMDB"]


def build_fast_layers(
    caffe: Path, jobs: int, announce: Announce, *, portable: bool = False, options: Sequence[str] = ()
) -> Path:
    """The library for the Caffe in ``caffe``, a folder of ours for the CPU; from the cache where it has been built.

    Built for this processor, or with ``portable`` for any of its kind; ``options`` are further ones of the compiler's.
    Returns the file in the cache. Raises ``CaffebenchError`` with the compiler's first error.
    """
    sources = sorted(Path(__file__).parent.glob("*.[ch]pp"))
    processor = [*([] if portable else ["-march=native"]), *options]
    cache = cache_folder()
    library = cache / f"fast-{_key(caffe, sources, processor)}" / LIBRARY
    with lock(cache / "fast.lock", announce):
        if library.is_file():
            return library
        announce(f"building the fast layers ({'portable' if portable else 'for this processor'})")
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            work = Path(folder)
            _, includes = caffe_headers(work, announce)

            def compiled(source: Path) -> str:
                made = str(work / f"{source.stem}.o")
                run_compiler([*_COMPILE, *processor, *includes, "-c", str(source), "-o", made])
                return made

            with ThreadPoolExecutor(jobs) as pool:
                objects = list(pool.map(compiled, (one for one in sources if one.suffix == ".cpp")))
            linked = work / LIBRARY
            libraries = [str(next(caffe.glob("libcaffe.so*"))), "-ldnnl", "-lglog"]
            shared = ["-shared", "-fopenmp", "-Wl,-rpath,$ORIGIN", *options]
            run_compiler(["g++", *shared, "-o", str(linked), *objects, *libraries])
            library.parent.mkdir(exist_ok=True)
            shutil.move(linked, library.with_suffix(".arriving"))
            library.with_suffix(".arriving").replace(library)
    return library


def caffe_headers(work: Path, announce: Announce) -> tuple[Path, list[str]]:
    """Caffe's source unpacked into ``work``, and the compiler's arguments with which its headers are found."""
    source = unpack(source_package(cache_folder() / "downloads", announce), work)
    made = work / "headers" / "caffe" / "proto"
    made.mkdir(parents=True)
    protocol = source / "src" / "caffe" / "proto"
    run_compiler(["protoc", f"-I{protocol}", f"--cpp_out={made}", str(protocol / "caffe.proto")])
    return source, [f"-I{work / 'headers'}", f"-I{source / 'include'}", "-I/usr/include/hdf5/serial"]


def _key(caffe: Path, sources: list[Path], processor: list[str]) -> str:
    """What a built library depends on: Caffe's library, our sources, oneDNN, and the processor it is built for."""
    found = hashlib.sha256()
    found.update(next(caffe.glob("libcaffe.so*")).read_bytes())
    for source in sources:
        found.update(source.read_bytes())
    version = Path("/usr/include/oneapi/dnnl/dnnl_version.h")
    found.update(version.read_bytes() if version.is_file() else b"")
    found.update(" ".join(processor).encode())
    if processor:
        # What -march=native comes to on this machine.
        asked = ["g++", *processor, "-Q", "--help=target"]
        found.update(subprocess.run(asked, capture_output=True, check=True).stdout)
    return f"{platform.machine()}-{found.hexdigest()[:16]}"


def run_compiler(command: list[str], what: str = "the fast layers") -> None:
    """Run a compiler or linker; ``CaffebenchError`` with its first error where ``what`` cannot be built."""
    detail(f"running {' '.join(command)}")
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"})
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines() or ["no word"]
        raise CaffebenchError(f"{what} could not be built ({said[0].strip()})")
