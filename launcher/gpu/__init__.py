"""Which GPUs there are, what a run takes of their memory, and how busy they are."""
