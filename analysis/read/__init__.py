"""Log files to parsed columns and events."""
