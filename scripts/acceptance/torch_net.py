"""A Caffe net in PyTorch, timed: torch_net.py NET.json IMAGES.npy DEVICE fp32|tf32 THREADS STEPS.

Needs PyTorch and NumPy alone. NET.json holds the training net's layers as `torch_layers.py` writes them: a list of
objects with ``name``, ``type``, ``bottom``, ``top`` and the settings of the type. Prints the seconds of the fastest
step and of the middle one as JSON.
"""

import json
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class Net(nn.Module):
    """The layers of a net, each run on the blobs that it names; shapes are worked out on the way."""

    def __init__(self, layers, images):
        """Build every layer; ``images`` is a batch of the data, (N, C, H, W)."""
        super().__init__()
        self.layers = layers
        self.made = nn.ModuleDict()
        self.keys = {layer["name"]: str(number) for number, layer in enumerate(layers)}
        self.device = images.device
        with torch.no_grad():
            self.run({"data": images[:2]})

    def module(self, layer, shape):
        """The module of a layer, made when it is first run."""
        key = self.keys[layer["name"]]
        if key not in self.made:
            self.made[key] = self.make(layer, shape).to(self.device)
        return self.made[key]

    @staticmethod
    def make(layer, shape):
        """A module for a layer whose input has ``shape``."""
        kind = layer["type"]
        if kind == "Convolution":
            return nn.Conv2d(
                shape[1],
                layer["num_output"],
                layer["kernel_size"],
                layer["stride"],
                layer["pad"],
                groups=layer["group"],
                bias=layer["bias_term"],
            )
        if kind == "InnerProduct":
            return nn.Linear(int(np.prod(shape[1:])), layer["num_output"], bias=layer["bias_term"])
        if kind == "BatchNorm":
            return nn.BatchNorm2d(shape[1], affine=layer["affine"])
        if kind == "LRN":
            return nn.LocalResponseNorm(layer["local_size"], layer["alpha"], layer["beta"], layer["k"])
        return nn.Dropout(layer["dropout_ratio"])

    def run(self, blobs):
        """Run the net on ``blobs``, by name; the weighted sum of its losses where labels are there."""
        losses = []
        for layer in self.layers:
            kind, inputs = layer["type"], [blobs[name] for name in layer["bottom"] if name in blobs]
            first = inputs[0]
            if kind == "InnerProduct":
                result = self.module(layer, first.shape)(first.flatten(1))
            elif kind in ("Convolution", "BatchNorm", "LRN", "Dropout"):
                result = self.module(layer, first.shape)(first)
            elif kind == "TanH":
                result = torch.tanh(first)
            elif kind == "ReLU":
                result = functional.relu(first, inplace=True)
            elif kind == "Clip":
                result = functional.hardtanh(first, layer["min"], layer["max"], inplace=True)
            elif kind == "Pooling" and layer["global"]:
                result = first.mean((2, 3), keepdim=True)
            elif kind == "Pooling":
                pool = functional.max_pool2d if layer["max"] else functional.avg_pool2d
                result = pool(first, layer["kernel_size"], layer["stride"], layer["pad"], ceil_mode=True)
            elif kind == "Eltwise":
                result = inputs[0] + inputs[1]
            elif kind == "Identity":
                result = first
            elif kind == "Concat":
                result = torch.cat(inputs, 1)
            elif kind == "SoftmaxWithLoss":
                if "label" in blobs:
                    losses.append(layer["loss_weight"] * functional.cross_entropy(first.flatten(1), blobs["label"]))
                continue
            else:
                raise SystemExit(f"torch_net.py does not know layers of type {kind}")
            blobs[layer["top"][0]] = result
        return sum(losses)


def main(net_file, images_file, device, precision, threads, steps):
    """Train, and print the seconds of a step, after some that are not counted, as one JSON object."""
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    with open(net_file) as opened:
        layers = json.load(opened)
    images = torch.from_numpy(np.load(images_file)).to(device)
    labels = torch.arange(len(images), device=device) % 10
    net = Net(layers, images).train()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.001, momentum=0.9, weight_decay=0.0005)
    wall, cpu = [], []
    for _ in range(steps + max(1, steps // 5)):
        begun, begun_cpu = time.perf_counter(), time.process_time()
        optimiser.zero_grad()
        loss = net.run({"data": images.clone(), "label": labels})
        loss.backward()
        optimiser.step()
        loss.item()  # wait for the device at each step, as Caffe does
        wall.append(time.perf_counter() - begun)
        cpu.append(time.process_time() - begun_cpu)
    wall, cpu = sorted(wall[-steps:]), sorted(cpu[-steps:])
    found = {"seconds": wall[0], "cpu_seconds": cpu[0], "middle_seconds": wall[steps // 2]}
    found["parameters"] = sum(one.numel() for one in net.parameters())
    print(json.dumps({**found, "version": torch.__version__}))


if __name__ == "__main__":
    main(*sys.argv[1:5], int(sys.argv[5]), int(sys.argv[6]))
