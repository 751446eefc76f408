"""From a declared sweep to stitched curves and a results table, on real Caffe.

The rooms of the repository are the packages in here: ``caffebench.analysis`` is ``analysis/`` (``setup.py``).
"""

__all__ = ["__version__"]

__version__ = "0.2.0"
