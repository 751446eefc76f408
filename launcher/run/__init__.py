"""Training a run to its end: scheduler, supervisor, and the child process that Caffe lives in."""
