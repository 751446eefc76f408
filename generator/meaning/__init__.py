"""Any prototxt reduced to what it means to Caffe."""

from caffebench.generator.meaning.backward import WORK_IN_PLACE, in_place, spoils, spoils_itself
from caffebench.generator.meaning.forms import said_twice, written
from caffebench.generator.meaning.graph import Graph, Vertex, build_graph
from caffebench.generator.meaning.positions import Node
from caffebench.generator.meaning.reading import Layer, PhaseNet, Prototxt, load_prototxt, net_in_state
from caffebench.generator.meaning.settings import (
    LAYER_TYPES,
    has_weights,
    layer_settings,
    parameter_count,
    solver_settings,
)

__all__ = [
    "LAYER_TYPES",
    "WORK_IN_PLACE",
    "Graph",
    "Layer",
    "Node",
    "PhaseNet",
    "Prototxt",
    "Vertex",
    "build_graph",
    "has_weights",
    "in_place",
    "layer_settings",
    "load_prototxt",
    "net_in_state",
    "parameter_count",
    "said_twice",
    "solver_settings",
    "spoils",
    "spoils_itself",
    "written",
]
