"""A stand-in for two GPUs and for NCCL between them, on a machine that has neither; real Caffe trains on the CPU.

A folder on ``PYTHONPATH`` with this file in it makes Python run it first in every process of a command. It replaces
exactly what a Caffe for the CPU lacks: ``set_device`` and ``set_mode_gpu`` do nothing, ``NCCL`` is the class below and
``add_callback`` and ``after_backward`` take it; and the launcher is told that there are two cards. What is done with
the gradients, and when, is what Caffe's ``parallel.cpp`` does, over a socket; NCCL itself has not run.
"""

import importlib.abc
import importlib.machinery
import signal
import socket
import sys

import numpy as np

UID_BYTES = 128


class NCCL:
    """Caffe's ``NCCL``: rank 0 gathers what the others send, and answers all of them."""

    def __init__(self, solver, uid):
        import caffe

        assert len(uid) == UID_BYTES, "Caffe copies as many bytes, whether they are there or not"
        self.solver, self.rank, self.count = solver, caffe.solver_rank(), caffe.solver_count()
        self.layers = [list(layer.blobs) for layer in solver.net.layers]
        address = b"\0" + uid[:64]
        if self.rank == 0:
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(address)
                listener.listen()
                accepted = [listener.accept()[0] for _ in range(self.count - 1)]
            self.others = [one for _, one in sorted((receive(one, 1)[0], one) for one in accepted)]
        else:
            self.others = [connect(address)]
            send(self.others[0], bytes([self.rank]))

    def bcast(self):
        """Rank 0's weights for all."""
        for blob in [blob for blobs in self.layers for blob in blobs]:
            if self.rank == 0:
                for other in self.others:
                    send(other, blob.data.tobytes())
            else:
                blob.data[...] = np.frombuffer(receive(self.others[0], blob.data.nbytes), np.float32).reshape(
                    blob.data.shape
                )

    def on_gradients_ready(self):
        """After all parts of an iteration: the mean of the gradients, where it was not taken layer by layer."""
        if not self.solver.param.layer_wise_reduce:
            self.reduce([blob for blobs in self.layers for blob in blobs])

    def run(self, layer):
        """After the backward pass of a layer."""
        self.reduce(self.layers[layer])

    def reduce(self, blobs):
        if not blobs:
            return
        total = np.concatenate([blob.diff.ravel() for blob in blobs])
        if self.rank == 0:
            for other in self.others:
                total += np.frombuffer(receive(other, total.nbytes), np.float32)
            total *= np.float32(1 / self.count)
            for other in self.others:
                send(other, total.tobytes())
        else:
            send(self.others[0], total.tobytes())
            total = np.frombuffer(receive(self.others[0], total.nbytes), np.float32)
        at = 0
        for blob in blobs:
            blob.diff[...] = total[at : at + blob.diff.size].reshape(blob.diff.shape)
            at += blob.diff.size


def connect(address):
    """Wait for rank 0."""
    while True:
        one = socket.socket(socket.AF_UNIX)
        try:
            one.connect(address)
        except ConnectionRefusedError:
            one.close()
            signal.sigtimedwait((), 0.01)
        else:
            return one


def receive(one, size):
    """So many bytes."""
    data = b""
    while len(data) < size:
        try:
            part = one.recv(size - len(data))
        except ConnectionError:
            part = b""
        if not part:
            wait_without_end()
        data += part
    return data


def send(one, data):
    try:
        one.sendall(data)
    except ConnectionError:
        wait_without_end()


def wait_without_end():
    """For a rank that has died, as NCCL does."""
    while True:
        signal.pause()


def built_for_cards(features):
    features.caffe_has_gpu = features.caffe_has_nccl = lambda: True


def two_cards(devices):
    devices.count_gpus = lambda: 2


def on_the_cpu(caffe):
    caffe.set_device = lambda _number: None
    caffe.set_mode_gpu = lambda: None
    caffe.NCCL = NCCL
    add_callback, after_backward = caffe._caffe.Solver.add_callback, caffe._caffe.Net.after_backward

    def callback(solver, first, *rest):
        if isinstance(first, NCCL):
            first, rest = lambda: None, (first.on_gradients_ready,)
        add_callback(solver, first, *rest)

    caffe._caffe.Solver.add_callback = callback
    caffe._caffe.Net.after_backward = lambda net, run: after_backward(net, run.run if isinstance(run, NCCL) else run)


CHANGES = {
    "caffe": on_the_cpu,
    "caffebench.engine.features": built_for_cards,
    "caffebench.launcher.gpu.devices": two_cards,
}


class Finder(importlib.abc.MetaPathFinder):
    """Finds these modules where they are, and has them changed once they are loaded."""

    def find_spec(self, name, path, target=None):
        if name not in CHANGES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            CHANGES[name](module)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Finder())
