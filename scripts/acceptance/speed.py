"""Images a second while training one net: Caffe with and without cuDNN, beside PyTorch, on the same device.

Data layers are replaced by constant blobs of their shape, so that what is measured is the device and not a disk.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from acceptance.layers import set_device
from acceptance.rows import Row
from caffebench.engine.pycaffe import import_caffe
from caffebench.launcher.gpu.memory import free_bytes, training_bytes

__all__ = ["speed_rows", "torch_python"]

_ENGINE_OF = {
    "Convolution": "convolution_param",
    "Deconvolution": "convolution_param",
    "Pooling": "pooling_param",
    "LRN": "lrn_param",
    "ReLU": "relu_param",
    "Sigmoid": "sigmoid_param",
    "Softmax": "softmax_param",
    "SoftmaxWithLoss": "softmax_param",
    "TanH": "tanh_param",
}
_NO_MEASURE = ("Accuracy", "Silence")


def _solver(path: Path, batch: int, own_kernels: bool) -> Any:
    """The training half of a solver file on constant input, ``own_kernels`` without cuDNN."""
    from google.protobuf import text_format

    from caffebench.engine.locate import caffe_pb2

    messages = caffe_pb2()
    solver = messages.SolverParameter()
    text_format.Parse(path.read_text(), solver)
    layers = [one for one in solver.net_param.layer if not any(rule.phase == messages.TEST for rule in one.include)]
    net = messages.NetParameter(name=solver.net_param.name)
    for layer in layers:
        if layer.type in _NO_MEASURE:
            continue
        added = net.layer.add()
        if layer.type == "Data":
            size = layer.transform_param.crop_size or 127
            added.name, added.type = layer.name, "DummyData"
            added.top.extend(layer.top)
            for shape in ([batch, 3, size, size], [batch])[: len(layer.top)]:
                added.dummy_data_param.shape.add(dim=shape)
            for value in (0.5, 0.0)[: len(layer.top)]:
                added.dummy_data_param.data_filler.add(type="constant", value=value)
            continue
        added.CopyFrom(layer)
        if own_kernels and layer.type in _ENGINE_OF:
            parameter = getattr(added, _ENGINE_OF[layer.type])
            parameter.engine = type(parameter).CAFFE
    solver.net_param.CopyFrom(net)
    for name in ("test_iter", "test_interval", "test_initialization", "snapshot_prefix", "snapshot_after_train"):
        solver.ClearField(name)
    solver.display = solver.snapshot = 0
    solver.snapshot_after_train = False
    return solver


def _portable(solver: Any) -> list[dict[str, Any]]:
    """The net as plain data for `torch_speed.py`, which runs where there is no Caffe: a chain of layers."""
    chain: list[dict[str, Any]] = []
    previous = ""
    for layer in solver.net_param.layer:
        if layer.type == "DummyData":
            previous = layer.top[0]
            chain.append({"type": "Input", "shape": list(layer.dummy_data_param.shape[0].dim)})
            continue
        if layer.bottom[0] != previous:
            raise RuntimeError(f"layer {layer.name} does not follow the one before it: only chains can be translated")
        previous = layer.top[0]
        made: dict[str, Any] = {"type": layer.type}
        if layer.type == "Convolution":
            one = layer.convolution_param
            made |= {"out": one.num_output, "kernel": one.kernel_size[0], "group": one.group, "bias": one.bias_term}
            made |= {"stride": one.stride[0] if one.stride else 1, "pad": one.pad[0] if one.pad else 0}
        elif layer.type == "InnerProduct":
            made |= {"out": layer.inner_product_param.num_output, "bias": layer.inner_product_param.bias_term}
        elif layer.type == "Pooling":
            one = layer.pooling_param
            made |= {"max": one.pool == type(one).MAX, "kernel": one.kernel_size, "stride": one.stride, "pad": one.pad}
        elif layer.type == "Dropout":
            made |= {"ratio": layer.dropout_param.dropout_ratio}
        elif layer.type not in ("ReLU", "TanH", "SoftmaxWithLoss"):
            raise RuntimeError(f"{layer.type} (layer {layer.name}) is not translated for PyTorch")
        chain.append(made)
    return chain


def _measure(path: Path, batch: int, own_kernels: bool, device: str, iterations: int) -> dict[str, float]:
    """Runs in a process of its own: images a second of forward, backward and update; on a GPU its memory too."""
    caffe = import_caffe()
    from google.protobuf import text_format

    set_device(device)
    solver = _solver(path, batch, own_kernels)
    file = path.with_suffix(f".speed{int(own_kernels)}")
    text = text_format.MessageToString(solver)
    file.write_text(text)
    gpu = None if device == "cpu" else int(device.removeprefix("gpu:"))
    before = None if gpu is None else free_bytes(gpu)
    trained = caffe.get_solver(str(file))
    trained.step(max(1, iterations // 5))  # each step ends by reading the loss, so by waiting for the device
    begun = time.perf_counter()
    trained.step(iterations)
    seconds = time.perf_counter() - begun
    count = sum(blob.count for blobs in trained.net.params.values() for blob in blobs)
    found = {"images": batch * iterations / seconds, "parameters": count}
    if gpu is not None and before is not None:
        found |= {"taken": before - (free_bytes(gpu) or 0), "estimated": training_bytes(text) or 0}
    return found


def _outside() -> dict[str, str]:
    """The variables for another Python than this one: without what `gpu-travel` sets for ours."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    for name in ("LD_LIBRARY_PATH", "PYTHONPATH"):
        if f"OUTER_{name}" in variables:
            variables[name] = variables.pop(f"OUTER_{name}")
    return variables


def torch_python(device: str) -> str | None:
    """A Python that has PyTorch (for this ``device``): ``$TORCH_PYTHON``, this one, or one on the PATH."""
    test = "import torch, sys; sys.exit(not (%r == 'cpu' or torch.cuda.is_available()))" % device  # noqa: UP031
    for candidate in (os.environ.get("TORCH_PYTHON"), sys.executable, "python3", "python"):
        if candidate:
            try:
                if subprocess.run([candidate, "-c", test], capture_output=True, env=_outside()).returncode == 0:
                    return candidate
            except OSError:
                continue
    return None


def speed_rows(path: Path, device: str, *, batch: int, iterations: int, cudnn: bool) -> Iterator[Row]:
    """A row for each of Caffe's and PyTorch's ways to train the net of ``path``."""
    tf32, workspace = {"CAFFEBENCH_TF32": "1"}, {"CAFFEBENCH_CUDNN_WORKSPACE_MIB": "256"}
    ways: list[tuple[str, bool, dict[str, str]]] = [("without cuDNN, fp32", True, {})]
    if device != "cpu":
        ways.append(("without cuDNN, TF32", True, tf32))
    if cudnn:
        ways.append(("with cuDNN, fp32", False, {}))
        ways.append(("with cuDNN, fp32, 256 MiB workspace", False, workspace))
        ways.append(("with cuDNN, TF32", False, tf32))
        ways.append(("with cuDNN, TF32, 256 MiB workspace", False, tf32 | workspace))
    what = f"{_solver(path, batch, False).net_param.name}, batch {batch}"
    parameters = 0
    for name, own_kernels, variables in ways:
        request = json.dumps([str(path), batch, own_kernels, device, iterations])
        found = _child([sys.executable, "-m", "acceptance.speed", request], dict(os.environ, **variables))
        parameters = int(found.get("parameters", 0)) or parameters
        yield _row(f"{what}: Caffe {name}", found)
    python = torch_python(device)
    if python is None:
        none = "no Python with PyTorch for this device (TORCH_PYTHON)"
        yield Row("speed", f"{what}: PyTorch", none, "a number", None if device == "cpu" else False)
        return
    net = path.with_suffix(".chain.json")
    net.write_text(json.dumps(_portable(_solver(path, batch, False))))
    script = Path(__file__).with_name("torch_speed.py")
    for precision in ("fp32", "tf32") if device != "cpu" else ("fp32",):
        target = "cpu" if device == "cpu" else device.replace("gpu", "cuda")
        found = _child([python, str(script), str(net), target, precision, str(iterations)], _outside())
        row = _row(f"{what}: PyTorch {found.get('version', '')}, {precision}", found)
        if "parameters" in found and int(found["parameters"]) != parameters:
            row = Row("speed", row.what, f"{found['parameters']} parameters", f"{parameters}", False)
        yield row


def _child(command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        return {"error": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _row(what: str, found: dict[str, Any]) -> Row:
    if "error" in found:
        return Row("speed", what, found["error"], "a number", False)
    memory = ""
    if "taken" in found:
        memory = f", {found['taken'] / 2**30:.1f} GiB (estimated {found['estimated'] / 2**30:.1f})"
    return Row("speed", what, f"{found['images']:,.0f} images/s{memory}")


if __name__ == "__main__":
    file, size, kernels, on, steps = json.loads(sys.argv[1])
    print(json.dumps(_measure(Path(file), size, kernels, on, steps)))
