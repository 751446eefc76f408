"""One image to one record: sizes, channel order, odd modes, encoded or not."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from caffebench.datasets.datum import read_record
from caffebench.datasets.images import ImageOptions, image_record

RGB = np.random.RandomState(0).randint(0, 256, (20, 30, 3)).astype(np.uint8)


def stored(path: Path, options: ImageOptions | None = None) -> np.ndarray:
    image, _ = read_record(image_record(path, 0, options or ImageOptions()).data)
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
            record = image_record(tmp_path / name, 4, options)
            assert read_record(record.data) == ((tmp_path / name).read_bytes(), 4)
            assert record.shape == (3, 20, 30)
            assert record.sums == image_record(tmp_path / name, 4, ImageOptions()).sums


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
    record = image_record(tmp_path / name, 0, options)
    content, _ = read_record(record.data)
    assert isinstance(content, bytes)
    image = Pillow.open(io.BytesIO(content))
    assert image.format == "JPEG"
    assert image.mode == ("L" if options.gray else "RGB")
    assert (image.height, image.width) == record.shape[1:]


def test_quality(tmp_path: Path) -> None:
    Pillow.fromarray(RGB).save(tmp_path / "x.png")
    sizes = [
        len(image_record(tmp_path / "x.png", 0, ImageOptions(small_side=200, encoded=True, quality=quality)).data)
        for quality in (30, 95)
    ]
    assert sizes[0] < sizes[1] / 2
