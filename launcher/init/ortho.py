"""Random orthonormal matrices: the start that LSUV prescribes and orthonormal initialisation is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

__all__ = ["FloatArray", "Orthonormal", "single_threaded_lapack"]

FloatArray = npt.NDArray[np.float32]


@contextmanager
def single_threaded_lapack() -> Iterator[None]:
    """Keep the BLAS in SciPy's wheel to one thread, so that ``finish`` can run beside Caffe.

    Two BLAS with threads of their own fight for the cores: on two busy ones that made it forty times slower.
    Where SciPy and Caffe share one BLAS, as on a distribution, it is left as it is.
    """
    import scipy.linalg.lapack  # noqa: F401 - the BLAS must be loaded to be found
    from threadpoolctl import ThreadpoolController

    found = ThreadpoolController()
    ours = [library["filepath"] for library in found.info() if "scipy.libs" in library["filepath"]]
    with found.select(filepath=ours).limit(limits=1):
        yield


class Orthonormal:
    """Random orthonormal weights of a linear layer: drawn when constructed, written by ``finish``.

    As one matrix a group, (outputs / groups) x (inputs per group · kernel size), their rows are orthonormal or,
    where there are more rows than columns, their columns. Each group is so by itself because that makes the whole
    layer orthonormal: groups never meet each other's inputs. The distribution is uniform (Haar), that of the Q of
    the QR decomposition of a Gaussian matrix (Saxe et al. 2013, arXiv:1312.6120; Mishkin and Matas 2015,
    arXiv:1511.06422, section 3), but no matrix is decomposed: the Householder vectors of that decomposition are
    independent and Gaussian themselves (Stewart 1980, "The efficient generation of random orthogonal matrices"),
    so draw those and let LAPACK multiply their reflections: half the work of a QR, a twelfth of an SVD.

    That one call is why SciPy is needed, and only here: NumPy's ``qr`` would have to decompose a Gaussian matrix, takes
    no reflections, and works in float64. SciPy is no dependency of ours for it: pycaffe imports scikit-image,
    which needs SciPy, so it is there wherever a net can be initialised (``engine.build_spec`` installs it with Caffe).
    """

    def __init__(self, weights: FloatArray, generator: np.random.Generator, *, groups: int = 1) -> None:
        """``weights``: the contiguous array to fill, (outputs, inputs per group, kernel height, kernel width, ...)."""
        self._matrices = weights.reshape(groups, weights.shape[0] // groups, -1)
        _, rows, columns = self._matrices.shape
        self._tall = rows > columns
        # In place where it can be: fresh memory would cost more than the random numbers.
        self._vectors = np.empty((groups, columns, rows), np.float32) if self._tall else self._matrices
        self._factors = np.zeros(self._vectors.shape[:2], np.float32)
        # Row k of a group is, from its diagonal on, what LAPACK takes as a reflection; left of that it reads nothing.
        for vectors, factors in zip(self._vectors, self._factors, strict=True):
            for k, vector in enumerate(vectors):
                factors[k] = _draw_reflection(vector[k:], generator)

    def finish(self) -> None:
        """Write the weights; to be called once. Another Python thread can run meanwhile."""
        from scipy.linalg.lapack import sorgqr

        for vectors, factors in zip(self._vectors, self._factors, strict=True):
            # LAPACK's matrices are column-major: the transpose of ours is one of them, without a copy.
            sorgqr(vectors.T, factors, lwork=64 * len(vectors), overwrite_a=1)
        if self._tall:
            self._matrices[...] = self._vectors.transpose(0, 2, 1)


def _draw_reflection(vector: FloatArray, generator: np.random.Generator) -> float:
    """Fill ``vector`` with the Householder reflection I - f v v' that turns a Gaussian x into (|x|, 0, ..., 0).

    Returns f. Stored is v with a leading 1 that LAPACK takes for granted. |x|, the diagonal of R, is positive, which
    is what makes Q uniform (Mezzadri 2007, "How to generate random matrices from the classical compact groups").
    """
    generator.standard_normal(out=vector, dtype=np.float32)
    first, others = float(vector[0]), vector[1:]
    rest = float(others @ others)
    norm = float(np.sqrt(first * first + rest))
    # first - norm, without cancellation (Parlett 1971).
    head = -rest / (first + norm) if first > 0 else first - norm
    if head == 0:
        return 0.0
    others /= np.float32(head)
    return -head / norm
