"""Random orthonormal matrices: the start that LSUV prescribes and orthonormal initialisation is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["FloatArray", "Orthonormal"]

FloatArray = npt.NDArray[np.float32]


class Orthonormal:
    """Random weights of a linear layer: drawn when constructed, computed by ``weights``.

    As one matrix a group, (outputs / groups) x (inputs per group · kernel size), their rows are orthonormal or,
    where there are more rows than columns, their columns. Each group is so by itself because that makes the whole
    layer orthonormal: groups never meet each other's inputs. The distribution is uniform (Haar), that of the Q of
    the QR decomposition of a Gaussian matrix (Saxe et al. 2013, arXiv:1312.6120; Mishkin and Matas 2015,
    arXiv:1511.06422, section 3), but no matrix is decomposed: the Householder vectors of that decomposition are
    independent and Gaussian themselves (Stewart 1980, "The efficient generation of random orthogonal matrices"),
    so draw those and let LAPACK multiply their reflections: half the work of a QR, a twelfth of an SVD.
    """

    def __init__(self, shape: Sequence[int], generator: np.random.Generator, *, groups: int = 1) -> None:
        """``shape``: (outputs, inputs per group, kernel height, kernel width, ...), as Caffe stores weights."""
        self._shape = tuple(shape)
        rows, columns = shape[0] // groups, int(np.prod(shape[1:]))
        self._tall = rows > columns
        rows, columns = sorted((rows, columns))
        # In a group, row k is from its diagonal on what LAPACK takes as a reflection; left of that it reads nothing.
        self._vectors = np.empty((groups, rows, columns), np.float32)
        self._factors = np.zeros((groups, rows), np.float32)
        for vectors, factors in zip(self._vectors, self._factors, strict=True):
            for k, vector in enumerate(vectors):
                factors[k] = _draw_reflection(vector[k:], generator)

    def weights(self) -> FloatArray:
        """The weights, of the shape asked for. To be called once: they are computed in place, without the GIL."""
        from scipy.linalg.lapack import sorgqr

        rows = self._vectors.shape[1]
        for vectors, factors in zip(self._vectors, self._factors, strict=True):
            # LAPACK's matrices are column-major: the transpose of ours is one of them, without a copy.
            sorgqr(vectors.T, factors, lwork=64 * rows, overwrite_a=1)
        matrices = self._vectors.transpose(0, 2, 1) if self._tall else self._vectors
        return matrices.reshape(self._shape)


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
