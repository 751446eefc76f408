"""What `scripts/soak` is made of: kinds of runs, killing them, damaging their snapshots, the table."""
