"""What a solver's file says: its settings, the nets that Caffe builds of it, phases, and what makes it the same run."""
