"""The rule on what the Caffe that is installed here was built without."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from caffebench.engine.features import caffe_has_leveldb, caffe_has_opencv, caffe_is_there
from caffebench.generator.lint.facts import database_kind, find, is_encoded, is_here
from caffebench.generator.lint.registry import Hit, of_layer, rule
from caffebench.generator.meaning import Layer, Prototxt

_NO_LAYER = "Caffe refuses the net: 'Unknown layer type', as this one was built without OpenCV"
_NO_DECODING = "Caffe stops at the first record: this one was built without OpenCV, which decodes images"
_IMAGES = "make an LMDB of the images with make-lmdb, or build OpenCV in: install-caffe --opencv"


@rule("caffe-without", "error", why="Caffe stops when it opens the database: this one was built without LevelDB")
def caffe_without(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """What the Caffe installed here was built without: image files need OpenCV, a LevelDB needs LevelDB.

    Nothing where Caffe is not installed; a note in a file for another machine, whose Caffe may be another.
    """
    if not caffe_is_there():
        return
    severity = None if is_here(file) else "note"
    opencv, leveldb = caffe_has_opencv(), caffe_has_leveldb()
    for layer in dict.fromkeys(layer for net in file.phases for layer in net.layers):
        if layer.type in ("ImageData", "WindowData") and not opencv:
            what = f"{layer.type} reads image files"
            yield of_layer(layer, what, _IMAGES, "type", severity=severity, why=_NO_LAYER)
        if layer.type != "Data":
            continue
        data = layer.message.data_param
        place = find(file, data.source) if data.source else None
        holds = database_kind(place) if place is not None else None
        if holds is None and "lmdb" in data.source.lower():
            holds = "LMDB"
        if data.backend == type(data).LEVELDB and holds != "LMDB" and not leveldb:  # else `backend` tells
            written = "backend LEVELDB" if data.HasField("backend") else "no backend, which is LEVELDB"
            fix = "build it in: install-caffe --leveldb; or make an LMDB with make-lmdb, and set backend: LMDB"
            yield of_layer(layer, written, fix, "data_param", severity=severity)
        if place is not None and not opencv and is_encoded(place) and not _decoded_by_loader(file, layer):
            what = f"the images in {data.source} are stored as files (JPEG, PNG)"
            fix = "make the LMDB again with raw pixels, or build OpenCV in: install-caffe --opencv"
            yield of_layer(layer, what, fix, "data_param.source", severity=severity, why=_NO_DECODING)


def _decoded_by_loader(file: Prototxt, layer: Layer) -> bool:
    """Whether run-caffe decodes the layer's images itself: those of TRAIN, where the header has a ``loader``."""
    phases = {net.phase for net in file.phases if layer in net.layers}
    return bool(file.header.get("loader")) and phases == {"TRAIN"}
