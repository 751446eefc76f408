"""A Caffe net in PyTorch, timed: torch_net.py NET.json IMAGES.npy THREADS STEPS. Needs PyTorch and NumPy alone.

NET.json holds the training net's layers as `bench_engine.py` writes them: a list of objects with ``name``, ``type``,
``bottom``, ``top`` and the settings of the type. Prints the images a second of the fastest step as JSON.
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
        with torch.no_grad():
            self.run({"data": images[:2]})

    def module(self, layer, shape):
        """The module of a layer, made when it is first run."""
        key = self.keys[layer["name"]]
        if key not in self.made:
            self.made[key] = self.make(layer, shape)
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


def main(net_file, images_file, threads, steps):
    """Train, and print images a second as one JSON object."""
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    with open(net_file) as opened:
        layers = json.load(opened)
    images = torch.from_numpy(np.load(images_file))
    labels = torch.arange(len(images)) % 10
    net = Net(layers, images).train()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.001, momentum=0.9, weight_decay=0.0005)
    best = best_cpu = float("inf")
    for _ in range(steps):
        begun, begun_cpu = time.perf_counter(), time.process_time()
        optimiser.zero_grad()
        loss = net.run({"data": images.clone(), "label": labels})
        loss.backward()
        optimiser.step()
        loss.item()
        best, best_cpu = min(best, time.perf_counter() - begun), min(best_cpu, time.process_time() - begun_cpu)
    parameters = sum(one.numel() for one in net.parameters())
    print(
        json.dumps({"seconds": best, "cpu_seconds": best_cpu, "parameters": parameters, "version": torch.__version__})
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
