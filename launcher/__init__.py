"""A prototxt to a run: logs, snapshots, initialisation, resume."""
