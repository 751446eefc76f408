"""The weights that training starts from: LSUV, orthonormal, or those of another training."""
