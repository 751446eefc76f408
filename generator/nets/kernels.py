"""What kernels that are moved over pixels make of a shape: convolutions of any number of axes, pooling, pyramids.

Formulas are those of ``Reshape`` in ``base_conv_layer.cpp``, ``deconv_layer.cpp``, ``im2col_layer.cpp``,
``pooling_layer.cpp`` and ``spp_layer.cpp`` of BVLC Caffe 1.0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import prod
from typing import Any

from caffebench.common.errors import InputError
from caffebench.generator.meaning.forms import said_twice, spread

__all__ = ["Shape", "axis_of", "convolution", "im2col", "kernel_of", "misfit", "pooling", "pyramid", "words"]

Shape = tuple[int, ...]


def misfit(layer: Any, why: str) -> InputError:
    """The error of a layer that does not fit what it reads."""
    return InputError(f"layer {layer.name} ({layer.type}): {why}")


def words(shape: Shape) -> str:
    """A shape as people write it."""
    return " x ".join(map(str, shape)) or "one value"


def axis_of(axis: int, shape: Shape) -> int:
    """The number of an axis, counted from the front; Caffe counts from the end what is below 0."""
    return axis if axis >= 0 else len(shape) + axis


def kernel_of(layer: Any, shape: Shape) -> tuple[int, tuple[int, ...]]:
    """The axis of a convolution's channels, and its kernel on the axes behind it."""
    axis = axis_of(layer.convolution_param.axis, shape)
    return axis, spread(layer.convolution_param, "kernel", len(shape) - axis - 1)


def _check_once(layer: Any, settings: Any) -> None:
    for stem in said_twice(settings):
        name = "kernel_size" if stem == "kernel" else stem
        raise misfit(layer, f"Caffe refuses {name} beside {stem}_h or {stem}_w: leave out one of them")


def _moved(layer: Any, shape: Shape) -> list[int]:
    _check_once(layer, layer.convolution_param)
    p, (axis, kernel) = layer.convolution_param, kernel_of(layer, shape)
    pixels = shape[axis + 1 :]
    pad, stride, dilation = (spread(p, stem, len(pixels)) for stem in ("pad", "stride", "dilation"))
    sides = []
    for side, k, d, a, s in zip(pixels, kernel, dilation, pad, stride, strict=True):
        reach = d * (k - 1) + 1
        if layer.type == "Deconvolution":
            sides.append(s * (side - 1) + reach - 2 * a)
            continue
        if side + 2 * a < reach:
            raise misfit(layer, f"its kernel of {reach} pixels is larger than its bottom, {side} with a pad of {a}")
        sides.append((side + 2 * a - reach) // s + 1)
    return sides


def convolution(layer: Any, shape: Shape) -> Shape:
    """Of Convolution and Deconvolution, for each bottom."""
    p, axis = layer.convolution_param, axis_of(layer.convolution_param.axis, shape)
    if shape[axis] % p.group or p.num_output % p.group:
        raise misfit(layer, f"its group of {p.group} must divide its {shape[axis]} inputs and {p.num_output} outputs")
    return (*shape[:axis], p.num_output, *_moved(layer, shape))


def im2col(layer: Any, shape: Shape) -> Shape:
    """Of Im2col: what lies under the kernel becomes channels."""
    axis, kernel = kernel_of(layer, shape)
    return (*shape[:axis], shape[axis] * prod(kernel), *_moved(layer, shape))


def pooling(layer: Any, shape: Shape) -> Shape:
    """Of Pooling, whose pictures have two axes."""
    p = layer.pooling_param
    _check_once(layer, p)
    if len(shape) != 4:
        raise misfit(layer, f"it takes blobs of 4 axes, not {words(shape)}")
    if p.global_pooling:
        return (*shape[:2], 1, 1)
    sizes = [spread(p, stem) for stem in ("kernel", "pad", "stride")]
    return (*shape[:2], *_pooled(layer, shape[2:], *sizes, floor=p.round_mode == p.FLOOR))


def _pooled(
    layer: Any, sides: Shape, kernel: Sequence[int], pad: Sequence[int], stride: Sequence[int], *, floor: bool = False
) -> list[int]:
    """Rounded up, a kernel may reach over the edge; where any axis has a pad, the last must not begin in the pad."""
    found = []
    for side, k, a, s in zip(sides, kernel, pad, stride, strict=True):
        left = side + 2 * a - k
        pooled = (left // s if floor else -(-left // s)) + 1
        if pooled < 1:
            raise misfit(layer, f"its kernel of {k} pixels is larger than its bottom, {side} with a pad of {a}")
        found.append(pooled - (any(pad) and (pooled - 1) * s >= side + a))
    return found


def pyramid(layer: Any, shape: Shape) -> Shape:
    """Of SPP: level n pools into about 2^n x 2^n bins; all levels side by side."""
    bins = []
    for level in range(layer.spp_param.pyramid_height):
        kernel = [math.ceil(side / 2**level) for side in shape[2:]]
        pad = [(k * 2**level - side + 1) // 2 for k, side in zip(kernel, shape[2:], strict=True)]
        bins.append(_pooled(layer, shape[2:], kernel, pad, kernel))
    if len(bins) == 1:
        return (*shape[:2], *bins[0])
    return (shape[0], shape[1] * sum(map(prod, bins)))
