"""From a sweep and a profile, both YAML, to variants: every setting of every file to be written."""
