"""Jinja templates: the solver, one file per architecture, macros for the blocks."""
