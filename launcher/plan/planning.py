"""From the command line to plans: every file is read and checked before anything runs."""

from __future__ import annotations

import re
from pathlib import Path

from caffebench.common.errors import InputError
from caffebench.engine import fast
from caffebench.engine.features import caffe_has_gpu, caffe_has_nccl
from caffebench.launcher.gpu.devices import choose_gpus, count_gpus
from caffebench.launcher.plan.adjust import adjust_solver
from caffebench.launcher.plan.datacheck import check_data
from caffebench.launcher.plan.feasible import check_feasible
from caffebench.launcher.plan.headercheck import check_header
from caffebench.launcher.plan.labels import check_labels
from caffebench.launcher.plan.naming import RunRequest, request_runs
from caffebench.launcher.plan.options import RunOptions
from caffebench.launcher.plan.plan import Batch, Plan
from caffebench.launcher.plan.pythonlayers import check_python_layers
from caffebench.launcher.solver.identity import identify
from caffebench.launcher.solver.nets import data_layers
from caffebench.launcher.solver.solverfile import SolverFile, read_solver
from caffebench.launcher.state.adopt import check_adoptable
from caffebench.launcher.state.paths import BrokenSnapshotError
from caffebench.launcher.state.weights import read_weights

__all__ = ["make_plans", "parse_duration", "same_images"]


def make_plans(options: RunOptions) -> Batch:
    """A plan for each file that the options name, or for each file and seed.

    Raises ``InputError`` for the first thing that is wrong.
    """
    jobs = 1 if options.jobs is None else options.jobs
    if jobs < 1:
        raise InputError(f"--jobs {jobs}: at least one run has to run at a time")
    fast_layers = options.layers == "fast"
    if fast_layers and not fast.is_built():
        raise InputError("--layers fast: the installed Caffe has no fast layers: run install-caffe, which builds them")
    built = caffe_has_gpu()
    gpus = choose_gpus(options.gpu, options.cpu, built=built, present=count_gpus() if built else 0)
    notes = [] if options.gpu is not None or options.cpu else [_device_note(gpus, built)]
    if gpus and fast_layers:
        raise InputError("--layers fast: the fast layers are for the CPU: add --cpu")
    requests = request_runs(options.prototxt, name=options.name, seed=options.seed, seeds=options.seeds)
    files = [read_solver(request.prototxt) for request in requests]
    plans = []
    for file, request in zip(files, requests, strict=True):
        plan, of_plan = _make_plan(file, request, gpus, options)
        plans.append(plan)
        notes += [note for note in of_plan if note not in notes]  # runs of one file may differ in the seed alone
    jobs = min(jobs, len(plans))
    if len(gpus) > 1 and jobs == 1:
        if not caffe_has_nccl():
            raise InputError(
                f"--gpu {options.gpu}: this Caffe was built without NCCL and trains a run on one GPU only: build one "
                f"with install-caffe --cuda --nccl, or train {len(gpus)} runs at a time with --jobs {len(gpus)}"
            )
        notes.append(
            f"{len(gpus)} GPUs train together: the batch size in the file is that of each GPU, so every iteration "
            f"takes {len(gpus)} times as many images; divide batch_size by {len(gpus)} to train as on one"
        )
        notes += same_images(files[0], len(gpus))
    if gpus and jobs > len(gpus):
        raise InputError(
            f"--jobs {jobs} needs as many GPUs, a run each, and there are {len(gpus)}: use --jobs {len(gpus)}"
        )
    return Batch(tuple(plans), jobs, gpus, tuple(notes))


def _device_note(gpus: tuple[int, ...], built: bool) -> str:
    if gpus:
        return f"training on GPU {gpus[0]}"
    return "training on the CPU" + (" (no GPU answers)" if built else " (this Caffe was built without CUDA)")


def same_images(file: SolverFile, gpus: int) -> list[str]:
    """A note for each layer that knows nothing of the other GPUs and does not draw either, as WindowData does."""
    return [
        f"layer {layer.name} of {file.path} (ImageData without shuffle) gives all {gpus} GPUs the same images, so that "
        "they train as one: set shuffle: true, or make an LMDB of the images with make-lmdb"
        for layer in data_layers(file.solver, "TRAIN", "ImageData")
        if not (layer.image_data_param.shuffle or layer.image_data_param.rand_skip)
    ]


def _make_plan(
    file: SolverFile, request: RunRequest, gpus: tuple[int, ...], options: RunOptions
) -> tuple[Plan, list[str]]:
    """The plan of one run, and what the user is to know of it."""
    solver, header = file.solver, file.header
    snapshot = options.snapshot
    weights = _starting_weights(file, options)
    init = "none" if weights or snapshot is not None else options.init or header.get("init", "none")
    identity = identify(
        file, init=init, weights=weights, snapshot=snapshot, seed=request.seed, max_iter=options.max_iter
    )
    if options.data_root is not None:
        file.move_data(options.data_root)
    if options.max_iter is not None:
        solver.max_iter = options.max_iter
    if snapshot is not None and (reached := check_adoptable(snapshot)) > solver.max_iter:
        raise InputError(
            f"--snapshot {snapshot} is of iteration {reached}, and {file.path} ends at {solver.max_iter}: raise "
            "max_iter there or with --max-iter"
        )
    if solver.max_iter <= 0:
        raise InputError(f"{file.path} has no max_iter above 0, so it would train nothing: add it, or use --max-iter")
    seed = request.seed
    if seed is None:
        seed = header.get("seed", solver.random_seed if solver.random_seed >= 0 else None)
    deterministic = bool(header.get("deterministic"))
    if deterministic:
        seed = 0 if seed is None else seed
        if gpus:
            _prefer_caffe_engine(file)
    check_feasible(file)
    data_notes = check_data(file, may_be_missing=options.dry_run)
    label_uses = check_labels(file)
    python_layers = check_python_layers(file, allow=options.allow_python_layers)
    check_header(file)
    overruled = adjust_solver(file, snapshots=str(options.snapshots / request.run), on_gpu=bool(gpus))
    plan = Plan(
        run=request.run,
        identity=identity,
        prototxt=str(file.path),
        solver=file.text(),
        max_iter=solver.max_iter,
        seed=seed,
        header=header,
        logs=str(options.logs),
        snapshots=str(options.snapshots),
        init=init,
        weights=weights,
        snapshot=None if snapshot is None else str(snapshot),
        gpus=gpus,
        layers=options.layers,
        notes=tuple(overruled),
        label_uses=label_uses,
        threads=1 if deterministic else None,
        resume=options.resume,
        fresh=options.fresh,
        keep_snapshots=options.keep_snapshots,
        time_limit=None if options.time_limit is None else parse_duration(options.time_limit),
        retries=options.retries,
        keep_going=options.keep_going,
        python_path=python_layers.folders,
    )
    return plan, [*data_notes, *python_layers.notes, *overruled]


def _starting_weights(file: SolverFile, options: RunOptions) -> tuple[str, ...]:
    """The files of weights to start from. Raises ``InputError`` where options exclude each other."""
    initialised = options.init not in (None, "none")
    if options.weights is not None and initialised:
        raise InputError("--weights and --init exclude each other: weights from a file need no initialisation")
    if options.snapshot is not None and (options.weights is not None or initialised):
        raise InputError("--snapshot and --weights or --init exclude each other: a snapshot has its weights with it")
    return () if options.snapshot is not None else _check_weights(file, options.weights)


def _prefer_caffe_engine(file: SolverFile) -> None:
    """Take Caffe's own convolutions: the backward passes of cuDNN add up in an order that varies."""
    for net in file.nets():
        for layer in net.layer:
            if layer.type in ("Convolution", "Deconvolution"):
                layer.convolution_param.engine = 1


def _check_weights(file: SolverFile, option: Path | None) -> tuple[str, ...]:
    """The files of weights to start from: the option's, else the header's, else the solver's own."""
    given = [str(option)] if option else [file.header.get("weights") or "", *file.solver.weights]
    names = tuple(name.strip() for text in given for name in text.split(",") if name.strip())
    for name in names:
        if not Path(name).is_file():
            raise InputError(
                f"{file.path} is to start from {name}, which is not there: name a .caffemodel with --weights"
            )
        try:
            read_weights(Path(name))
        except BrokenSnapshotError as error:
            raise InputError(f"{file.path} is to start from weights, but {error}") from None
    return names


def parse_duration(text: str) -> float:
    """Seconds in "8h", "1h30m", "90m", "45s" or plain "3600". Raises ``InputError``."""
    match = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", text.strip())
    if not text.strip() or match is None:
        raise InputError(f"--time-limit {text}: write a time such as 8h, 1h30m, 90m or 45s")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if total == 0:
        raise InputError(f"--time-limit {text}: that leaves no time to train")
    return float(total)
