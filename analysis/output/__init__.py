"""Runs to what people and other programs look at: CSV files, table, plots, report, exports, the terminal."""
