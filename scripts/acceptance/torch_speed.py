"""The same net in PyTorch: torch_speed.py NET.json DEVICE fp32|tf32 ITERATIONS. Needs nothing but PyTorch."""

import json
import sys
import time

import torch
from torch import nn


class Net(nn.Module):
    """The chain of layers that `speed.py` wrote, shapes worked out on the way."""

    def __init__(self, chain):
        """Build every layer of ``chain``."""
        super().__init__()
        layers, shape = [], chain[0]["shape"]
        blob = torch.zeros([1, *shape[1:]])
        for one in chain[1:-1]:  # the first is the input, the last the loss
            kind = one["type"]
            if kind == "Convolution":
                made = nn.Conv2d(
                    blob.shape[1],
                    one["out"],
                    one["kernel"],
                    one["stride"],
                    one["pad"],
                    groups=one["group"],
                    bias=one["bias"],
                )
            elif kind == "InnerProduct":
                if blob.dim() > 2:
                    layers.append(nn.Flatten())
                    blob = blob.flatten(1)
                made = nn.Linear(blob.shape[1], one["out"], bias=one["bias"])
            elif kind == "Pooling":
                pool = nn.MaxPool2d if one["max"] else nn.AvgPool2d
                made = pool(one["kernel"], one["stride"], one["pad"], ceil_mode=True)
            elif kind == "Dropout":
                made = nn.Dropout(one["ratio"])
            else:
                made = {"ReLU": lambda: nn.ReLU(inplace=True), "TanH": nn.Tanh}[kind]()
            layers.append(made)
            with torch.no_grad():
                blob = made.eval()(blob)
        self.layers = nn.Sequential(*layers).train()

    def forward(self, images):
        """Scores, (N, classes)."""
        return self.layers(images)


def main(file, device, precision, iterations):
    """Train, and print images a second as one JSON object."""
    with open(file) as opened:
        chain = json.load(opened)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    net = Net(chain).to(device)
    loss = nn.CrossEntropyLoss()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=0.0005)
    images = torch.full(chain[0]["shape"], 0.5, device=device)
    labels = torch.zeros(chain[0]["shape"][0], dtype=torch.long, device=device)

    def steps(count):
        for _ in range(count):
            optimiser.zero_grad()
            value = loss(net(images), labels)
            value.backward()
            optimiser.step()
            value.item()  # wait for the device at each step, as Caffe does

    steps(max(1, iterations // 5))
    begun = time.perf_counter()
    steps(iterations)
    seconds = time.perf_counter() - begun
    print(
        json.dumps(
            {
                "images": len(labels) * iterations / seconds,
                "parameters": sum(one.numel() for one in net.parameters()),
                "version": torch.__version__,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
