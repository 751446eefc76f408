"""A declared sweep and a data set profile to prototxt files."""
