"""Real Caffe: building it, finding it, importing it."""
