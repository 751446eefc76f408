"""Facts of Caffe and its data sets that several rooms need, each once."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Literal, get_args

__all__ = [
    "DATA_LAYERS",
    "DEAD_SOFTMAX",
    "FILLERS",
    "IMAGENET_CLASSES",
    "IMAGENET_NAME",
    "IMAGENET_TEST",
    "IMAGENET_TRAIN",
    "LABEL_LAYERS",
    "LR_POLICIES",
    "PREFETCHING_LAYERS",
    "SOFTMAX_LOSSES",
    "SOLVER_HISTORIES",
    "SOLVER_TYPES",
    "InitMethod",
    "SolverType",
]

SolverType = Literal["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"]
SOLVER_TYPES: tuple[SolverType, ...] = get_args(SolverType)
SOLVER_HISTORIES: Mapping[str, int] = {one: 2 if one in ("AdaDelta", "Adam") else 1 for one in SOLVER_TYPES}
"""How many arrays as large as the weights a solver keeps beside them and their gradient (``src/caffe/solvers``)."""

LR_POLICIES = ("fixed", "step", "exp", "inv", "multistep", "poly", "sigmoid")
"""Of ``GetLearningRate`` (``sgd_solver.cpp``)."""

FILLERS = ("constant", "gaussian", "uniform", "positive_unitball", "xavier", "msra", "bilinear")
"""Of ``GetFiller`` (``filler.hpp``)."""

DATA_LAYERS = ("Data", "ImageData", "WindowData", "MemoryData", "HDF5Data")
"""Layers that read what a net is trained on."""
PREFETCHING_LAYERS = ("Data", "ImageData", "WindowData")
"""Those whose thread reads batches ahead (``base_data_layer.cpp``)."""

SOFTMAX_LOSSES = ("SoftmaxWithLoss", "MultinomialLogisticLoss")
"""Those that are ln(classes) for a net that guesses."""
LABEL_LAYERS = (*SOFTMAX_LOSSES, "InfogainLoss", "HingeLoss", "Accuracy")
"""Those that compare scores with labels, which number the classes."""
DEAD_SOFTMAX = round(-math.log(2.0**-126), 4)
"""87.3365, -log(FLT_MIN): the loss of a softmax that is certain and wrong for every image."""

IMAGENET_CLASSES, IMAGENET_TRAIN, IMAGENET_TEST = 1000, 1_281_167, 50_000
"""ILSVRC 2012: classes, training images, validation images."""
IMAGENET_NAME = re.compile(r"imagenet|ilsvrc", re.IGNORECASE)
"""What its data are called, somewhere in their path."""

InitMethod = Literal["lsuv", "ortho", "ortho-lsuv", "none"]
"""Initialisations that ``run-caffe`` adds to Caffe's own."""
