"""Are the databases that a net reads there, and do they fit it? Asked before Caffe is started."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from caffebench.common.caffe_facts import PREFETCHING_LAYERS
from caffebench.common.errors import InputError
from caffebench.engine.features import caffe_has_opencv
from caffebench.engine.locate import caffe_pb2
from caffebench.launcher.data.records import read_records
from caffebench.launcher.solver.netfile import NAMING
from caffebench.launcher.solver.nets import built_layers, built_nets, data_layers
from caffebench.launcher.solver.solverfile import SolverFile

__all__ = ["check_data", "expected_shape"]

MAKERS = {"digits": "digits", "cifar10": "cifar10 SRC", "fashion": "fashion-mnist", "mnist": "mnist SRC"}
"""Profiles that make-lmdb has a source format for; any other is a folder of images."""

READERS = {
    "transform_param": (*PREFETCHING_LAYERS, "MemoryData"),
    "image_data_param": ("ImageData",),
    "hdf5_data_param": ("HDF5Data",),
    "window_data_param": ("WindowData",),
    "infogain_loss_param": ("InfogainLoss",),
}
"""The layers that read the file which a message of ``NAMING`` names, databases apart."""


def check_data(file: SolverFile, *, may_be_missing: bool = False) -> list[str]:
    """Check every LMDB that the solver's nets read: notes on what is odd but can be trained on.

    Those that are not there are passed over on request, if the file alone says what they would give. Raises
    ``InputError`` with the way out: missing, empty, not an LMDB, images of a size that does not fit.
    """
    _check_named_files(file, may_be_missing)
    found: dict[str, dict[str, tuple[int, int, int, int]]] = {"TRAIN": {}, "TEST": {}}  # by the blob with the images
    for phase, shapes in found.items():
        for layer in data_layers(file.solver, phase):
            if may_be_missing and not Path(layer.data_param.source).exists() and expected_shape(layer, file.header):
                continue
            if layer.data_param.backend == caffe_pb2().DataParameter.LMDB:
                shapes.setdefault(layer.top[0] if layer.top else "", _check_layer(layer, phase, file))
    for blob in found["TRAIN"].keys() & found["TEST"].keys():
        _check_sizes(file, blob, found["TRAIN"][blob], found["TEST"][blob])
    train, test = (next(iter(shapes.values()), None) for shapes in found.values())
    return [
        f"{file.path} was made for {expected:,} {name} images and the LMDB has {found[0]:,}: its epochs are not what "
        "its header says"
        for name, expected, found in (
            ("training", file.header.get("train_size"), train),
            ("test", file.header.get("test_size"), test),
        )
        if found and expected is not None and found[0] != expected
    ]


def _check_sizes(
    file: SolverFile, blob: str, train: tuple[int, int, int, int], test: tuple[int, int, int, int]
) -> None:
    """Refuse images of two sizes where a layer's weights fit one only."""
    if train[1:] == test[1:] or not all((*train, *test)):  # the sizes of encoded images are unknown
        return
    if train[1] != test[1] or _fits_one_size(built_layers(file.solver), blob):
        raise InputError(
            f"{file.path}: the training images come out as {_size(train[1:])} and the test images as "
            f"{_size(test[1:])}, so one net cannot read both: make both databases of one size, or set crop_size"
        )


def _fits_one_size(layers: tuple[Any, ...], images: str) -> bool:
    """Whether a fully connected layer, or a loss over one label an image, sees ``images`` by more than channels."""
    sees, labels = {images}, set[str]()
    for layer in layers:
        if images in layer.top:
            labels |= set(layer.top) - sees
        if not sees & set(layer.bottom):
            continue
        if layer.type == "InnerProduct" or labels & set(layer.bottom):
            return True
        if layer.type != "Pooling" or not layer.pooling_param.global_pooling:
            sees |= set(layer.top)
    return False


def expected_shape(layer: Any, header: dict[str, Any]) -> tuple[int, int, int] | None:
    """Channels, height and width that a data layer gives out, told from the file alone; None where it cannot be."""
    transform, shape = layer.transform_param, header.get("shape")
    channels = shape[0] if shape else 3 if transform.force_color or len(transform.mean_value) == 3 else None
    height, width = (transform.crop_size,) * 2 if transform.crop_size else shape[1:] if shape else (0, 0)
    return (channels, height, width) if channels and height and width else None


def _check_named_files(file: SolverFile, may_be_missing: bool) -> None:
    """Refuse a mean, a list or a matrix that is missing, or a device or a pipe, which Caffe would read without end."""
    for layer in (layer for net in built_nets(file.solver) for layer in net.layers):
        for message, field in NAMING:
            name = getattr(getattr(layer, message), field)
            path = Path(name)
            if not name or field == "root_folder" or path.is_file() or not _reads(layer, message):
                continue
            if path.exists():
                raise InputError(
                    f"layer {layer.name} of {file.path} names {name}, which is not a regular file: name a file"
                )
            if not may_be_missing:
                raise InputError(
                    f"layer {layer.name} of {file.path} names {name}, which is not there: make it, or name another "
                    "data root with --data-root DIR"
                )


def _reads(layer: Any, message: str) -> bool:
    """Whether Caffe opens what ``message`` of a layer names: not where its type has no use for it."""
    given = layer.type == "InfogainLoss" and len(layer.bottom) > 2  # the matrix, as a third bottom
    return layer.type in READERS.get(message, ()) and not given


def _check_layer(layer: Any, phase: str, file: SolverFile) -> tuple[int, int, int, int]:
    """Check one layer's database: records, and the channels, height and width that the layer gives out."""
    source = Path(layer.data_param.source)
    count, datum = _first(source, phase, file)
    if datum is None:
        raise InputError(f"the LMDB {source} is empty: make it again with {_how_to_make(source, file)}")
    channels, height, width = datum.channels, datum.height, datum.width
    transform = layer.transform_param
    if datum.encoded:
        if not caffe_has_opencv() and not (phase == "TRAIN" and file.header.get("loader")):
            raise InputError(
                f"the images in {source} are stored as files (JPEG, PNG), which this Caffe, built without OpenCV, "
                f"cannot decode: install-caffe --opencv builds one that can; or make the LMDB again with "
                f"{_how_to_make(source, file)} and raw pixels"
                + (', or let "# caffebench: loader: {workers: 2}" decode them' if phase == "TRAIN" else "")
            )
        return count, 0, 0, 0  # only decoding tells the size
    if crop := transform.crop_size:
        if crop > min(height, width):
            raise InputError(
                f"the images in {source} are {_size((channels, height, width))}, too small for crop_size {crop} in "
                f"layer {layer.name} of {file.path}: make the LMDB again with {_how_to_make(source, file)}"
            )
        height = width = crop
    shape = file.header.get("shape")
    if shape is not None and not crop and [channels, height, width] != shape:
        raise InputError(
            f"the images in {source} are {_size((channels, height, width))} and {file.path} was made for "
            f"{_size(tuple(shape))}: make the LMDB again with {_how_to_make(source, file)}"
        )
    means = len(transform.mean_value)
    if means > 1 and means != channels:
        raise InputError(
            f"the images in {source} have {channels} channels, but layer {layer.name} of {file.path} "
            f"has {means} mean values: wrong LMDB for this file, or wrong profile"
        )
    return count, channels, height, width


def _first(source: Path, phase: str, file: SolverFile) -> tuple[int, Any]:
    """The number of records and the first one (None if there is none)."""
    import lmdb
    from google.protobuf.message import DecodeError

    use = "trains on" if phase == "TRAIN" else "tests on"
    if not (source / "data.mdb").is_file() and not source.is_file():
        raise InputError(
            f"{file.path} {use} the LMDB {source}, which is not there: make it with {_how_to_make(source, file)}, "
            "or name another data root with --data-root DIR"
        )
    try:
        with read_records(source) as (statistics, cursor):
            count = int(statistics["entries"])
            datum = caffe_pb2().Datum.FromString(bytes(cursor.value())) if cursor.first() else None
    except lmdb.Error as error:
        raise InputError(f"{source}, which {file.path} {use}, is not an LMDB that can be read: {error}") from None
    except DecodeError:
        raise InputError(f"{source}, which {file.path} {use}, holds no Caffe Datum records") from None
    return count, datum


def _how_to_make(source: Path, file: SolverFile) -> str:
    profile = str(file.header.get("profile", source.parent.name))
    what = MAKERS.get(profile, "folder SRC")
    side = re.search(r"(\d+)$", source.parent.name) or re.search(r"(\d+)$", profile)
    size = f" --small-side {side[1]}" if what == "folder SRC" and side else ""
    return f'"make-lmdb {what} {source.parent}{size}"'


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
