"""One image to one record: sizes, channel order, odd modes, encoded or not."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from caffebench.common.errors import InputError
from caffebench.datasets.datum import read_record
from caffebench.datasets.images import ImageOptions, image_record

RGB = np.random.RandomState(0).randint(0, 256, (20, 30, 3)).astype(np.uint8)


def stored(path: Path, options: ImageOptions | None = None) -> np.ndarray:
    image, _ = read_record(image_record(path.read_bytes(), 0, options or ImageOptions()).data)
    if isinstance(image, bytes):
        raise TypeError("this record is encoded")
    return image


def test_pixels_are_planes_in_bgr(tmp_path: Path) -> None:
    Pillow.fromarray(RGB).save(tmp_path / "x.png")
    np.testing.assert_array_equal(stored(tmp_path / "x.png"), RGB[..., ::-1].transpose(2, 0, 1))


def test_gray(tmp_path: Path) -> None:
    Pillow.fromarray(RGB[..., 0]).save(tmp_path / "x.png")
    np.testing.assert_array_equal(stored(tmp_path / "x.png", ImageOptions(gray=True)), RGB[np.newaxis, ..., 0])
    as_color = stored(tmp_path / "x.png")
    np.testing.assert_array_equal(as_color, np.stack([RGB[..., 0]] * 3))


@pytest.mark.parametrize(
    ("size", "shape"),
    [((500, 375), (128, 171)), ((375, 500), (171, 128)), ((128, 128), (128, 128)), ((60, 40), (128, 192)),
     ((100, 1), (128, 12_800)), ((1300, 1299), (128, 128))],
)  # fmt: skip
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_the_smaller_side_is_exact(tmp_path: Path, size: tuple[int, int], shape: tuple[int, int], form: str) -> None:
    Pillow.new("RGB", size, (200, 100, 50)).save(tmp_path / "x", form)
    image = stored(tmp_path / "x", ImageOptions(small_side=128))
    assert image.shape == (3, *shape)
    np.testing.assert_allclose(image.reshape(3, -1).mean(axis=1), (50, 100, 200), atol=2)


def test_a_large_jpeg_decoded_small_looks_like_one_decoded_whole(tmp_path: Path) -> None:
    coarse = np.random.RandomState(1).randint(0, 256, (12, 16, 3)).astype(np.uint8)
    photo = Pillow.fromarray(coarse).resize((640, 480), Pillow.Resampling.BICUBIC)
    photo.save(tmp_path / "x.jpg", quality=95)
    got = stored(tmp_path / "x.jpg", ImageOptions(small_side=64)).astype(float)
    whole = np.asarray(Pillow.open(tmp_path / "x.jpg").resize((85, 64), Pillow.Resampling.LANCZOS)).astype(float)
    error = np.mean((got - whole[..., ::-1].transpose(2, 0, 1)) ** 2)
    assert 10 * np.log10(255**2 / error) > 35  # dB


def test_modes_that_photographs_do_not_have(tmp_path: Path) -> None:
    red = {
        "palette.gif": Pillow.new("RGB", (9, 7), (254, 0, 0)).quantize(),
        "alpha.png": Pillow.new("RGBA", (9, 7), (254, 0, 0, 128)),
        "cmyk.jpg": Pillow.new("RGB", (9, 7), (254, 0, 0)).convert("CMYK"),
        "bits.bmp": Pillow.new("RGB", (9, 7), (254, 0, 0)),
    }
    for name, image in red.items():
        image.save(tmp_path / name)
        pixels = stored(tmp_path / name)
        assert pixels.shape == (3, 7, 9)
        np.testing.assert_allclose(pixels.reshape(3, -1).mean(axis=1), (0, 0, 254), atol=3)
    Pillow.new("1", (9, 7), 1).save(tmp_path / "one.png")
    assert (stored(tmp_path / "one.png") == 255).all()


def test_sixteen_bits_keep_the_upper_eight(tmp_path: Path) -> None:
    deep = (np.arange(63).reshape(7, 9) * 1000).astype(np.uint16)
    Pillow.fromarray(deep).save(tmp_path / "x.png")
    np.testing.assert_array_equal(stored(tmp_path / "x.png", ImageOptions(gray=True))[0], deep >> 8)


@pytest.mark.parametrize("orientation", [1, 6])
def test_sixteen_bits_are_turned_as_eight_are(tmp_path: Path, orientation: int) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    deep = (np.arange(63).reshape(7, 9) * 1000).astype(np.uint16)
    Pillow.fromarray(deep).save(tmp_path / "x.png", exif=exif)
    expected = deep >> 8 if orientation == 1 else np.rot90(deep >> 8, -1)
    np.testing.assert_array_equal(stored(tmp_path / "x.png", ImageOptions(gray=True))[0], expected)


def tiff(path: Path, pixels: bytes, width: int, bits: int, white: int = 1, kind: int = 1) -> None:
    """One row of gray pixels; ``kind`` is TIFF's SampleFormat: 1 unsigned, 2 signed, 3 floating-point."""
    tags = {256: width, 257: 1, 258: bits, 259: 1, 262: white, 273: 0, 277: 1, 278: 1, 279: len(pixels), 339: kind}
    tags[273] = 8 + 2 + 12 * len(tags) + 4  # where the pixels are
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items())
    path.write_bytes(struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + pixels)


def test_twelve_bits_and_white_that_is_zero(tmp_path: Path) -> None:
    gray = ImageOptions(gray=True)
    tiff(tmp_path / "x.tif", bytes.fromhex("000400800fff"), 4, bits=12)
    assert stored(tmp_path / "x.tif", gray).tolist() == [[[0, 64, 128, 255]]]
    for bits, pixels in ((8, b"\x00\x40\xff"), (16, b"\x00\x00\x00\x40\xff\xff")):
        tiff(tmp_path / "x.tif", pixels, 3, bits, white=0)
        assert stored(tmp_path / "x.tif", gray).tolist() == [[[255, 191, 0]]]


@pytest.mark.parametrize(
    ("form", "pixels"),
    [
        ("TIFF", np.linspace(0, 1, 63, dtype=np.float32)),
        ("TIFF", np.linspace(0, 255, 63, dtype=np.float32)),
        ("TIFF", np.arange(63, dtype=np.int32)),
        ("PPM", np.linspace(0, 1, 63, dtype=np.float32)),  # "portable float map"
    ],
)
def test_numbers_without_black_and_white_are_no_image(tmp_path: Path, form: str, pixels: np.ndarray) -> None:
    Pillow.fromarray(pixels.reshape(7, 9)).save(tmp_path / "x", form)
    with pytest.raises(InputError, match="32-bit, signed or floating-point numbers: save it with 8 or 16 bits"):
        stored(tmp_path / "x")


def test_signed_sixteen_bits_are_no_image(tmp_path: Path) -> None:
    tiff(tmp_path / "x.tif", np.array([-1000, 0, 1000], "<i2").tobytes(), 3, bits=16, kind=2)
    with pytest.raises(InputError, match="signed"):
        stored(tmp_path / "x.tif")


@pytest.mark.parametrize("options", [ImageOptions(), ImageOptions(small_side=10)])
def test_a_camera_held_upright(tmp_path: Path, options: ImageOptions) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees, clockwise
    image = Pillow.new("RGB", (30, 20), (0, 0, 0))
    image.paste((255, 255, 255), (0, 0, 15, 20))  # the left half, which then is the upper
    image.save(tmp_path / "x.jpg", exif=exif)
    pixels = stored(tmp_path / "x.jpg", options)
    _, height, width = pixels.shape
    assert height == 1.5 * width
    assert pixels[:, : height // 3].min() > 200
    assert pixels[:, -height // 3 :].max() < 50


def test_encoded_keeps_a_file_that_needs_nothing(tmp_path: Path) -> None:
    for name in ("x.jpg", "x.png"):
        Pillow.fromarray(RGB).save(tmp_path / name)
        for options in (ImageOptions(encoded=True), ImageOptions(small_side=20, encoded=True)):
            record = image_record((tmp_path / name).read_bytes(), 4, options)
            assert read_record(record.data) == ((tmp_path / name).read_bytes(), 4)
            assert record.shape == (3, 20, 30)
            assert record.sums == image_record((tmp_path / name).read_bytes(), 4, ImageOptions()).sums


@pytest.mark.parametrize(
    ("name", "mode", "options"),
    [
        ("x.jpg", "RGB", ImageOptions(small_side=10, encoded=True)),
        ("x.jpg", "L", ImageOptions(encoded=True)),  # OpenCV would decode it to one channel
        ("x.jpg", "RGB", ImageOptions(gray=True, encoded=True)),
        ("x.png", "RGBA", ImageOptions(encoded=True)),
        ("x.gif", "P", ImageOptions(encoded=True)),
    ],
)
def test_encoded_anew_where_the_file_will_not_do(tmp_path: Path, name: str, mode: str, options: ImageOptions) -> None:
    Pillow.fromarray(RGB).convert(mode).save(tmp_path / name)
    record = image_record((tmp_path / name).read_bytes(), 0, options)
    content, _ = read_record(record.data)
    assert isinstance(content, bytes)
    image = Pillow.open(io.BytesIO(content))
    assert image.format == "JPEG"
    assert image.mode == ("L" if options.gray else "RGB")
    assert (image.height, image.width) == record.shape[1:]


def png(path: Path, pixels: np.ndarray, color: int, *chunks: tuple[bytes, bytes]) -> None:
    """As Pillow reads, but does not write: three channels of 16 bits, a gray value that is transparent."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = pixels.shape[:2]
    head = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, color, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(pixels.dtype.newbyteorder(">")).tobytes() for row in pixels)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))


def test_a_png_that_opencv_reads_with_more_bits_or_channels_is_encoded_anew(tmp_path: Path) -> None:
    deep = RGB.astype(np.uint16) << 8
    transparent = (b"tRNS", struct.pack(">HHH", 1, 2, 3))
    png(tmp_path / "deep.png", deep, 2)
    png(tmp_path / "deep_gray.png", deep[..., 0], 0)
    png(tmp_path / "transparent.png", RGB, 2, transparent)
    png(tmp_path / "transparent_gray.png", RGB[..., 0], 0, (b"tRNS", b"\0\1"))
    for path in sorted(tmp_path.iterdir()):
        options = ImageOptions(gray="gray" in path.name, encoded=True)
        content, _ = read_record(image_record(path.read_bytes(), 0, options).data)
        assert isinstance(content, bytes)
        image = Pillow.open(io.BytesIO(content))
        assert (image.format, image.mode) == ("JPEG", "L" if options.gray else "RGB")
        wanted = RGB[..., 0] if options.gray else RGB
        np.testing.assert_allclose(np.asarray(image).mean(), wanted.mean(), atol=3)


def test_quality(tmp_path: Path) -> None:
    Pillow.fromarray(RGB).save(tmp_path / "x.png")
    content = (tmp_path / "x.png").read_bytes()
    options = [ImageOptions(small_side=200, encoded=True, quality=quality) for quality in (30, 95)]
    sizes = [len(image_record(content, 0, one).data) for one in options]
    assert sizes[0] < sizes[1] / 2
