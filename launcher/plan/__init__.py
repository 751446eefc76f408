"""Files and options to plans that are known to be able to run."""
