"""A Caffe net as plain data for `torch_net.py`, which runs where there is no Caffe."""

from __future__ import annotations

from typing import Any

__all__ = ["layers_for_torch"]


def layers_for_torch(net: Any) -> list[dict[str, Any]]:
    """The layers as ``torch_net.py`` takes them; Scale after BatchNorm is the affine part of PyTorch's."""
    scaled = {layer.bottom[0] for layer in net.layer if layer.type == "Scale"}
    layers: list[dict[str, Any]] = []
    for layer in net.layer[1:]:
        kind = layer.type
        made: dict[str, Any] = {"name": layer.name, "type": kind, "bottom": [*layer.bottom], "top": [*layer.top]}
        if kind == "Convolution":
            one = layer.convolution_param
            made |= {"num_output": one.num_output, "group": one.group, "bias_term": one.bias_term}
            made |= {"kernel_size": one.kernel_size[0], "stride": [*one.stride, 1][0], "pad": [*one.pad, 0][0]}
        elif kind == "InnerProduct":
            one = layer.inner_product_param
            made |= {"num_output": one.num_output, "bias_term": one.bias_term}
        elif kind == "Pooling":
            one = layer.pooling_param
            made |= {"max": one.pool == 0, "global": one.global_pooling}
            made |= {"kernel_size": one.kernel_size, "stride": one.stride, "pad": one.pad}
        elif kind == "LRN":
            one = layer.lrn_param
            made |= {"local_size": one.local_size, "alpha": one.alpha, "beta": one.beta, "k": one.k}
        elif kind == "Dropout":
            made["dropout_ratio"] = layer.dropout_param.dropout_ratio
        elif kind == "Clip":
            made |= {"min": layer.clip_param.min, "max": layer.clip_param.max}
        elif kind == "BatchNorm":
            made["affine"] = layer.top[0] in scaled
        elif kind == "SoftmaxWithLoss":
            made["loss_weight"] = [*layer.loss_weight, 1.0][0]
        elif kind == "Scale":
            made["type"] = "Identity"
        layers.append(made)
    return layers
