"""Building the test programmes of Caffe's source package against an installed Caffe of ours."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caffebench.common.errors import CaffebenchError
from caffebench.common.messages import Announce
from caffebench.engine.build import MANIFEST, cache_folder, lock, source_package, unpack
from caffebench.engine.build_spec import INCLUDE, SOURCE_SHA256, BuildSpec
from caffebench.engine.cuda import find_kit
from caffebench.engine.fast.build import run_compiler

__all__ = ["Programme", "build", "plugin_types"]

HERE = Path(__file__).parent
FAST = HERE.parents[1] / "engine" / "fast"

# In the tests themselves nothing is slow; what they call is in Caffe's library, compiled as it was installed.
_COMPILE = ["g++", "-O0", "-w", "-fPIC", "-DUSE_HDF5", "-DWITH_PYTHON_LAYER", "-DGTEST_USE_OWN_TR1_TUPLE"]
_LIBRARIES = ["-lglog", "-lgflags", "-lprotobuf", "-lboost_system", "-lboost_thread", "-lboost_filesystem", "-lpthread"]
_CAT_BYTES = 140391  # what test_io.cpp says that cat.jpg has
_HDF5 = "/usr/include/hdf5/serial", "/usr/lib/x86_64-linux-gnu/hdf5/serial"


@dataclass(frozen=True)
class Programme:
    """A test programme, and the folder of the source package that its tests read files from."""

    file: Path
    source: Path


def plugin_types() -> list[str]:
    """The layer types that the fast library takes over, from its sources."""
    found = (re.findall(r'Registration<\w+> \w+\("(\w+)"\)', file.read_text()) for file in sorted(FAST.glob("*.cpp")))
    return sorted(type_ for types in found for type_ in types)


def build(caffe: Path, jobs: int, announce: Announce, *, plugin: bool = False) -> Programme:
    """The programme of all tests, or with ``plugin`` of those that make layers by the name of a class taken over.

    ``caffe`` is the folder of an installed Caffe of ours. Taken from the cache where it has been built; what was
    compiled before an interruption is not compiled again. Raises ``CaffebenchError`` with the compiler's first error.
    """
    try:
        manifest = json.loads((caffe / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise CaffebenchError(f"{caffe} is not a Caffe of install-caffe: its tests need one") from error
    options = [*_COMPILE, *_defines(manifest)]
    cache = cache_folder() / f"tests-{manifest['options']}-{_key(options)}"
    name = "layer-tests-of-the-library" if plugin else "caffe-tests"
    with lock(cache.with_suffix(".lock"), announce):
        source = cache / "source"
        if not source.is_dir():
            arriving = cache / "arriving"
            shutil.rmtree(arriving, ignore_errors=True)
            arriving.mkdir(parents=True)
            unpacked = unpack(source_package(cache_folder() / "downloads", announce), arriving)
            unpacked.rename(source)
            arriving.rmdir()
        _add_pictures(source / "examples" / "images")
        programme = Programme(cache / name, source)
        if not programme.file.is_file():
            work = cache / f"{name}.work"
            (work / "headers" / "caffe" / "proto").mkdir(parents=True, exist_ok=True)
            announce(f"building {name} ({manifest['options']}) in {work}")
            _build(programme, caffe, work, options, manifest["arch"], jobs, plugin=plugin)
            shutil.rmtree(work)
    return programme


def _defines(manifest: dict[str, Any]) -> list[str]:
    """Macros and folders that Caffe itself was compiled with."""
    defines = ["-DUSE_LMDB"]
    if manifest["cuda"] is None:
        defines += ["-std=c++14", "-DCPU_ONLY"]
    else:
        fields = {name: manifest[name] for name in ("cuda", "cudnn", "nccl")}
        folders = find_kit(_silent).environment(BuildSpec(**fields))["CPATH"].split(":")
        # CUDA_TEST_DEVICE: of the cards the one that the programme's argument names, else the first.
        defines += ["-std=c++17", "-DCUDA_TEST_DEVICE=-1", *(f"-I{one}" for one in folders)]
    defines += ["-DUSE_CUDNN"] if manifest["cudnn"] else []
    defines += ["-DUSE_NCCL"] if manifest["nccl"] else []
    if manifest.get("opencv"):
        defines += ["-DUSE_OPENCV", f"-I{INCLUDE / 'opencv'}", "-I/usr/include/opencv4"]
    defines += ["-DUSE_LEVELDB"] if manifest.get("leveldb") else []
    return defines


def _key(options: list[str]) -> str:
    """What a built programme depends on, besides the version of Caffe."""
    found = hashlib.sha256(" ".join([SOURCE_SHA256, *plugin_types(), *options]).encode())
    for file in (HERE / "plugin.hpp", Path("/usr/include/google/protobuf/stubs/common.h")):
        found.update(file.read_bytes())
    found.update(subprocess.run(["g++", "--version"], capture_output=True, check=True).stdout)
    return found.hexdigest()[:12]


def _build(
    programme: Programme, caffe: Path, work: Path, options: list[str], arch: Sequence[str], jobs: int, *, plugin: bool
) -> None:
    source, headers = programme.source, work / "headers"
    protocol = source / "src" / "caffe" / "proto"
    run_compiler(["protoc", f"-I{protocol}", f"--cpp_out={headers / 'caffe' / 'proto'}", str(protocol / "caffe.proto")])
    tests = source / "src" / "caffe" / "test"
    files = sorted(tests.glob("test_*.cpp"))
    if plugin:
        names = re.compile(rf"\b(?:{'|'.join(plugin_types())})Layer<")
        kept = [file for file in files if names.search(file.read_text())]
        files = [*kept, tests / "test_caffe_main.cpp"]
    (headers / "all_layers.hpp").write_text("".join(_layer_headers(source)))
    (headers / "taken_over.hpp").write_text("".join(_renamed()))
    shutil.copy2(HERE / "plugin.hpp", headers)
    includes = [f"-I{headers}", f"-I{source / 'include'}", f"-I{source / 'src'}", f"-I{_HDF5[0]}", f"-I{INCLUDE}"]
    command = [*options, *includes]
    common = headers / "common.hpp"
    wanted = [
        *(["caffe_cuda.h"] if arch else []),  # as Caffe itself is compiled; before the headers that it is about
        "gtest/gtest.h",
        "caffe/caffe.hpp",
        "caffe/test/test_caffe_main.hpp",
        "caffe/test/test_gradient_check_util.hpp",
    ]
    common.write_text('#include "plugin.hpp"\n' if plugin else "".join(f'#include "{one}"\n' for one in wanted))
    run_compiler(
        [*command, "-x", "c++-header", str(common), "-o", f"{common}.gch"]
    )  # which halves the time of each file

    def compiled(file: Path) -> str:
        made = work / f"{file.stem}.o"
        if not made.is_file():
            before = [] if file.name == "gtest-all.cpp" else ["-include", str(common)]
            run_compiler([*command, *before, "-c", str(file), "-o", f"{made}.arriving"])
            Path(f"{made}.arriving").replace(made)
        return str(made)

    with ThreadPoolExecutor(jobs) as pool:
        objects = list(pool.map(compiled, [source / "src" / "gtest" / "gtest-all.cpp", *files]))
    if arch:
        objects += _kernel_tests(tests, work, command, arch)
    linked = work / "linked"
    libraries = [str(next(caffe.glob("libcaffe.so*"))), *_LIBRARIES, f"-L{_HDF5[1]}", "-lhdf5_hl", "-lhdf5"]
    libraries += ["-lopencv_imgcodecs", "-lopencv_imgproc", "-lopencv_core"] if "-DUSE_OPENCV" in options else []
    libraries += _cuda_libraries(caffe) if arch else []
    run_compiler(["g++", *objects, *libraries, "-Wl,--allow-shlib-undefined", "-o", str(linked)])
    linked.replace(programme.file)


def _kernel_tests(tests: Path, work: Path, command: list[str], arch: Sequence[str]) -> list[str]:
    """Object files of the tests that start a kernel of Caffe's themselves, compiled for the cards of ``arch``.

    From CUDA 13 on nvcc keeps what starts a kernel inside the kernel's own file, so each test is compiled with that.
    """
    nvcc = [str(find_kit(_silent).nvcc), "-w", "-Xcompiler", "-fPIC,-w"]
    nvcc += [f"-gencode=arch=compute_{one},code=sm_{one}" for one in arch]
    nvcc += [f"-gencode=arch=compute_{arch[-1]},code=compute_{arch[-1]}"]
    made = []
    for file in sorted(tests.glob("test_*_kernel.cu")):
        kernels = tests.parent / "util" / file.name.removeprefix("test_").replace("_kernel", "")
        made.append(str(work / f"{file.stem}.cu.o"))
        own = [option for option in command[1:] if option not in ("-w", "-fPIC")]
        run_compiler(
            [*nvcc, *own, "-include", "caffe_cuda.h", "-include", str(kernels), "-c", str(file), "-o", made[-1]]
        )
    return made


def _cuda_libraries(caffe: Path) -> list[str]:
    """For the linker: those of CUDA's libraries that Caffe's own has found, and that the tests call too."""
    library = next(caffe.glob("libcaffe.so*"))
    listed = subprocess.run(["ldd", str(library)], capture_output=True, text=True, check=True).stdout
    found = re.findall(r"=> (/\S*lib(?:cudart|cublas|curand|cudnn)\.so\S*)", listed)
    return [*found, *(f"-Wl,-rpath,{Path(file).parent.resolve()}" for file in found)]


def _silent(_: str) -> None:
    """Say nothing: the build of Caffe itself has told where the compiler is."""


def _layer_headers(source: Path) -> Iterator[str]:
    for file in sorted((source / "include" / "caffe" / "layers").glob("*.hpp")):
        if file.name == "python_layer.hpp":  # wants Python's headers
            continue
        yield f'#include "caffe/layers/{file.name}"\n'


def _renamed() -> Iterator[str]:
    for type_ in plugin_types():
        yield "namespace caffe { template <typename Dtype> "
        yield f"using Plugin{type_}Layer = FromRegistry<Dtype, {type_}Layer>; }}\n"
    for type_ in plugin_types():
        yield f"#define {type_}Layer Plugin{type_}Layer\n"


def _add_pictures(folder: Path) -> None:
    """Pictures under the names of those that the tests read and the source package lacks, of the sizes wanted."""
    from PIL import Image
    from skimage.data import chelsea, coffee

    folder.mkdir(parents=True, exist_ok=True)
    cat = Image.fromarray(chelsea()).resize((480, 360))
    cat.save(folder / "cat.jpg", quality=95)
    with (folder / "cat.jpg").open("ab") as file:  # a JPEG may have anything behind its end
        file.write(bytes(_CAT_BYTES - file.tell()))
    for name in ("cat gray.jpg", "cat_gray.jpg"):
        cat.convert("L").save(folder / name)
    Image.fromarray(coffee()).resize((481, 323)).save(folder / "fish-bike.jpg")
