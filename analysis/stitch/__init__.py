"""Parsed logs to sessions, and to the curve that survives of them."""
