"""Logs to events, curves, plots and tables."""
