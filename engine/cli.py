"""The command ``install-caffe``."""

from __future__ import annotations

import os
import re
from pathlib import Path

import click

from caffebench.common.cli import command
from caffebench.common.errors import CaffebenchError, InputError
from caffebench.common.messages import announce
from caffebench.common.terminal import progress_bars, wrapped

__all__ = ["main"]


@command(
    "install-caffe",
    examples="""
    install-caffe             # build Caffe for the CPU into this Python environment
    install-caffe --cuda --cudnn --arch 90    # for a Hopper card, with cuDNN's convolutions
    install-caffe --opencv --leveldb    # that reads image files, encoded LMDBs and LevelDB too
    install-caffe --wheel dist    # Caffe for the CPU as a file, for machines without root and compiler
    install-caffe caffebench_caffe-*.whl    # such a file into this Python environment
    install-caffe --check     # what is installed, and whether it works
    """,
)
@click.argument("wheel", required=False, type=click.Path(path_type=Path))
@click.option(
    "--check",
    is_flag=True,
    help="Report what is installed, and whether it works and has what --cuda, --opencv, ... name; change nothing.",
)
@click.option("--cuda", is_flag=True, help="Build for NVIDIA cards, with CUDA 12 or 13.")
@click.option("--cudnn", is_flag=True, help="With cuDNN; implies --cuda.")
@click.option("--nccl", is_flag=True, help="With NCCL, for training on several cards; implies --cuda.")
@click.option(
    "--arch", metavar="N[,N...]", help="Compute capabilities of the cards, 90 for 9.0.  [default: the cards here]"
)
@click.option(
    "--opencv/--no-opencv",
    default=None,
    help="With OpenCV: ImageData, WindowData and LMDBs of JPEG or PNG.  [default: where the system has it]",
)
@click.option("--leveldb/--no-leveldb", default=None, help="With LevelDB.  [default: where the system has it]")
@click.option(
    "--portable",
    is_flag=True,
    help="Compile the fast layers for any processor of this architecture, not only for this one.",
)
@click.option(
    "--wheel",
    "wheel_folder",
    metavar="DIRECTORY",
    type=click.Path(file_okay=False, path_type=Path),
    help="Install nothing: write Caffe for the CPU, with its libraries, as a wheel into this folder.",
)
@click.option("--jobs", type=click.IntRange(min=1), help="Parallel compilers.  [default: one per core]")
@click.option("--force", is_flag=True, help="Build again, and replace the installed Caffe.")
def main(
    wheel: Path | None,
    check: bool,
    cuda: bool,
    cudnn: bool,
    nccl: bool,
    arch: str | None,
    opencv: bool | None,
    leveldb: bool | None,
    portable: bool,
    wheel_folder: Path | None,
    jobs: int | None,
    force: bool,
) -> None:
    """Build real Caffe into the current Python environment: `import caffe` and the `caffe` tool.

    With WHEEL, a file that --wheel made on another machine, nothing is built: neither root nor a compiler is needed.

    Builds are cached: the next environment takes seconds. A Caffe that works and has what you ask for is left alone.
    On a machine without a card, --cuda builds for all generations of cards.
    """
    cuda = cuda or cudnn or nccl
    architectures = tuple(arch.split(",")) if arch is not None else ()
    if architectures and not cuda:
        raise InputError("--arch is for GPU builds: add --cuda")
    for one in architectures:
        if not re.fullmatch(r"\d\d+|\d+\.\d", one):
            raise InputError(f"--arch {one}: give compute capabilities separated by commas, as in 90 or 80,90")
    if check and architectures:
        raise InputError("--check cannot tell for which cards Caffe was built: leave --arch out")
    if wheel_folder is not None and (cuda or opencv or leveldb or wheel is not None or check):
        raise InputError(
            "--wheel makes a plain Caffe for the CPU and installs none: give it without --cuda, --opencv, --leveldb, "
            "--check and a WHEEL"
        )
    if wheel is not None and (cuda or opencv or leveldb or portable or check):
        raise InputError(f"{wheel} is built already: give it without options for building, and without --check")
    from caffebench.engine.blas import blas_environment, chosen_core_type
    from caffebench.engine.cards import cards
    from caffebench.engine.probe import Probe, probe

    def report(found: Probe) -> None:
        mode = "CPU only"
        if found.cuda is not None:
            libraries = [f"cuDNN {found.cudnn}"] if found.cudnn else []
            libraries += ["NCCL"] if found.nccl else []
            devices = f"{found.devices} device{'s' if found.devices > 1 else ''} here"
            if not found.devices:
                devices = "the card here needs a newer driver for it" if cards() else "no device here"
            mode = f"built for {' and '.join([f'CUDA {found.cuda}', *libraries])}, {devices}"
        extras = {"OpenCV": found.opencv, "LevelDB": found.leveldb, "fast CPU layers": found.fast}
        parts = [f"Caffe {found.version}", mode, f"BLAS {found.blas}", *(name for name in extras if extras[name])]
        parts.append(f"{found.layers} layer types")
        if without := [name for name in extras if not extras[name]]:
            parts.append(f"without {' and '.join(without)}")
        click.echo(wrapped(f"{', '.join(parts)}: {found.folder}"))
        for name, value in blas_environment().items():
            click.echo(
                wrapped(
                    f"OpenBLAS does not know this processor and computes for a {chosen_core_type()}: run-caffe tells "
                    f"it {value}; for other programs, {name}={value} in the environment does"
                )
            )

    if check:
        found = probe()
        if found.missing:
            raise CaffebenchError("Caffe is not installed for this Python: run install-caffe")
        if found.error is not None:
            raise CaffebenchError(f"Caffe is installed but does not work ({found.error}): run install-caffe --force")
        report(found)
        asked_for = {
            "CUDA": cuda and found.cuda is None,
            "cuDNN": cudnn and found.cudnn is None,
            "NCCL": nccl and not found.nccl,
            "OpenCV": opencv and not found.opencv,
            "LevelDB": leveldb and not found.leveldb,
        }
        if missing := [name for name, lacks in asked_for.items() if lacks]:
            options = " ".join(f"--{name.lower()}" for name in missing)
            raise CaffebenchError(f"Caffe was built without {' and '.join(missing)}: run install-caffe {options}")
        return

    from caffebench.engine.build_spec import BuildSpec
    from caffebench.engine.install import BuildOptions, install
    from caffebench.engine.wheel.install import install_wheel
    from caffebench.engine.wheel.make import make_wheel

    if wheel is not None:
        report(install_wheel(wheel, announce, force=force))
        return
    jobs = jobs or len(os.sched_getaffinity(0))
    with progress_bars() as update:

        def advance(done: float) -> None:
            update("building Caffe", done, 1)

        if wheel_folder is not None:
            click.echo(make_wheel(BuildSpec(), wheel_folder, jobs, announce, advance, fresh=force))
            return
        asked = BuildOptions(cuda, cudnn, nccl, architectures, portable, opencv, leveldb)
        found = install(asked, jobs, announce, advance, force=force)
    report(found)
