"""The checks of `scripts/gpu-acceptance`: what a card must do before we say that Caffe works on it."""
