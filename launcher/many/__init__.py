"""Where the runs of a command are trained: on this machine, or as jobs of a cluster."""
