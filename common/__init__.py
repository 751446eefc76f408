"""What every room needs and none owns: errors with exit codes, the command-line frame, whole-file writes."""
