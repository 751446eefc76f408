"""The results table: its lines, the published figures beside ours, and its formats."""
