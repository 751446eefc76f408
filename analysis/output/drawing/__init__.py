"""What the plots have in common: curves, axes that fit them, marks, legend, colours, and fewer points."""
