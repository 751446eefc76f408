"""The state of a run on the disk: its paths, snapshots and seeds, and how training is brought back to it."""
