"""Nets as lists of layers that can be followed, changed and measured."""
