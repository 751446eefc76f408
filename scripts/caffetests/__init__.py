"""What `scripts/test-caffe` is made of: building Caffe's own tests, running them, what is known to fail and why."""
