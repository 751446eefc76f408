"""One image file to one record: decode, resize, order the channels. Runs in worker processes."""

from __future__ import annotations

import io
import os
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

from caffebench.common.errors import InputError
from caffebench.datasets.bounded import open_regular, read_regular
from caffebench.datasets.datum import Record, encoded_record, raw_record

__all__ = ["FORMATS", "ImageOptions", "image_record", "is_image", "read_image"]

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Named to Pillow, which goes by the content: of a format like EPS it would run another program's interpreter."""
_EXTENSIONS = frozenset(
    {".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
_BY_CONTENT = frozenset({"", ".apng", ".dib", ".jfi", ".jif", ".mpo", ".pjp", ".pjpeg"})
"""Rare ones, and none. Others, as of backup copies (``.png.bak``), are no image's whatever the content."""
_LARGEST_FILE = 1 << 30
_ORIENTATION = 0x0112  # the EXIF tag
# TIFF's tags, and the value by which 0 is white.
_BITS, _INTERPRETATION, _WHITE_IS_ZERO = 258, 262, 0


@dataclass(frozen=True)
class ImageOptions:
    """How images become records."""

    small_side: int | None = None
    """Resize so that the smaller side has this many pixels and the ratio of the sides stays; None: as they are."""
    gray: bool = False
    encoded: bool = False
    """Store JPEG (or a file as it is) instead of pixels: smaller, but only a Caffe with OpenCV reads it."""
    quality: int = 95
    """Of the JPEG where an image has to be encoded anew."""

    def about(self) -> dict[str, Any]:
        """What of this the records depend on."""
        about = asdict(self)
        if not self.encoded:
            del about["quality"]
        return about


def is_image(path: str) -> bool:
    """Whether a file is an image, be it damaged: by its name's ending; by its content where that is rare or none.

    One of these that cannot be opened counts as one; who reads it learns why.
    """
    extension = os.path.splitext(path)[1].lower()
    if extension in _EXTENSIONS:
        return True
    if extension not in _BY_CONTENT:
        return False
    try:
        file = open_regular(path)
    except InputError:
        return False
    except OSError:
        return True
    with file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            Pillow.open(file, formats=FORMATS)
        except Pillow.DecompressionBombError:
            return True
        except Exception:  # text that begins as an image does can make Pillow raise anything
            return False
    return True


def read_image(path: Path) -> bytes:
    """The content of an image file. Raises ``OSError`` or ``InputError`` where it cannot be read."""
    return read_regular(path, _LARGEST_FILE)


def image_record(content: bytes, label: int, options: ImageOptions) -> Record:
    """The record of an image file: planes in OpenCV's order, BGR, as Caffe's ``convert_imageset`` stores them.

    Raises ``InputError`` where it would become too large an image, and for a damaged one whatever Pillow raises.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd metadata says nothing about the pixels
        original = Pillow.open(io.BytesIO(content), formats=FORMATS)
        mode = "L" if options.gray else "RGB"
        as_it_is = (
            original.format in ("JPEG", "PNG")
            # Caffe decodes with all bits and channels that a file has, and takes only images of 8 bits: of a PNG of
            # 16 bits, Pillow's mode says nothing.
            and original.tile[0][3] in (mode, (mode, ""))
            and "transparency" not in original.info
            and original.getexif().get(_ORIENTATION, 1) == 1
            and options.small_side in (None, min(original.size))
        )
        image = _pixels(original, mode, options.small_side)
    if not options.encoded:
        planes = np.asarray(image)
        planes = planes[np.newaxis] if options.gray else planes[..., ::-1].transpose(2, 0, 1)
        return raw_record(np.ascontiguousarray(planes), label)
    if not as_it_is:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=options.quality)
        content = buffer.getvalue()
    histogram = np.array(image.histogram()).reshape(-1, 256)  # exact, and cheaper than planes
    sums = (histogram @ np.arange(256)).tolist()[::-1]
    shape = len(sums), image.height, image.width
    return encoded_record(content, label, shape, tuple(sums), anew=not as_it_is)


def _pixels(image: Pillow.Image, mode: str, small_side: int | None) -> Pillow.Image:
    size = image.size if small_side is None else _scaled(image.size, small_side)
    if size[0] * size[1] > 2 * (Pillow.MAX_IMAGE_PIXELS or 1 << 30):  # where Pillow itself refuses to decode
        raise InputError(f"{image.width} x {image.height} pixels would become {size[0]} x {size[1]}")
    # A large JPEG is decoded at a half, a quarter or an eighth of its size, but never below the size wanted: that
    # halves the time. Measured against Lanczos from full size: 41 dB, where OpenCV's own resize comes to 30.
    image.draft(mode, size)
    if image.mode.startswith(("I", "F")):
        image = _eight_bits(image)
    if image.mode != mode:
        image = image.convert(mode)
    if image.size != size:
        image = image.resize(size, Pillow.Resampling.BICUBIC)
    ImageOps.exif_transpose(image, in_place=True)
    return image


def _eight_bits(image: Pillow.Image) -> Pillow.Image:
    """A gray image of 16 bits with the upper eight, as OpenCV gives it, or a scanner's of 12.

    Raises ``InputError`` where the pixels are numbers of which nobody can tell what is black and what is white.
    """
    if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
        raise InputError("its pixels are 32-bit, signed or floating-point numbers: save it with 8 or 16 bits")
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS, (16,))[0]
    pixels = (np.asarray(image) >> (bits - 8)).clip(0, 255).astype(np.uint8)
    # Pillow itself turns those of 8 bits round.
    eight = Pillow.fromarray(255 - pixels if tags.get(_INTERPRETATION) == _WHITE_IS_ZERO else pixels)
    eight.info = {key: image.info[key] for key in ("exif",) if key in image.info}
    return eight


def _scaled(size: tuple[int, int], small_side: int) -> tuple[int, int]:
    scale = small_side / min(size)
    return max(small_side, round(size[0] * scale)), max(small_side, round(size[1] * scale))
