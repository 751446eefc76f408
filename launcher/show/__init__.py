"""What a run's log says while it grows, and how that is shown."""
