# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Lines in columns to rows, and what rows are like, compiled."""

from libc.stdint cimport INT64_MIN, int16_t, int32_t, int64_t, uint8_t

cdef enum:  # kinds, as in rows
    LOSS = 0
    LR = 1
    TRAIN = 2
    TEST = 3
    TESTING = 4
    ODD = 254
    NONE = 255
    SPEAKERS = 16  # processes whose last heads are kept apart

cdef double NAN = float("nan")


def settle(
    int64_t base, const int32_t[::1] index_of,
    int64_t[::1] starts, uint8_t[::1] kinds, int64_t[::1] times, int64_t[::1] iterations,
    double[::1] values, int32_t[::1] pids, int16_t[::1] metrics, int16_t[::1] nets, double[::1] rates,
):
    """Lines to rows, in place: outputs get iteration, time and net of the line above them, every row its learning rate.

    ``index_of`` is the number among the outputs of each metric, -1 without one; ``base`` is added to the offsets.
    Returns the number of rows and of outputs that have lost the line that says their iteration.
    """
    cdef Py_ssize_t lines = len(kinds), count = 0, bad = 0, head = -1, k, near, kept
    cdef int kind, slot, used = 0, here = -1, last = -1
    cdef int64_t[SPEAKERS] speaker
    cdef Py_ssize_t[SPEAKERS] heads
    cdef int[SPEAKERS] last_index
    cdef bint[SPEAKERS] fallen
    cdef double value
    with nogil:
        # Only the lines that say something; outputs under their heads.
        for k in range(lines):
            kind = kinds[k]
            if kind == NONE or kind == ODD:
                continue
            if kind == LOSS or kind == TESTING or ((kind == TRAIN or kind == TEST) and iterations[k] < 0):
                if here < 0 or speaker[here] != pids[k]:
                    here = -1
                    for slot in range(used if used < SPEAKERS else SPEAKERS):
                        if speaker[slot] == pids[k]:
                            here = slot
                            break
            if kind == LOSS or kind == TESTING:
                if here < 0:
                    here = used % SPEAKERS
                    used += 1
                last = here
                speaker[here], heads[here], last_index[here], fallen[here] = pids[k], count, -1, False
            elif (kind == TRAIN or kind == TEST) and iterations[k] < 0:
                here = last if here < 0 else here
                head = heads[here] if here >= 0 else -1
                if here >= 0:
                    # Numbers of outputs rise from line to line; where not, a line that says an iteration is missing.
                    if 0 <= index_of[metrics[k]] <= last_index[here]:
                        fallen[here] = True
                    last_index[here] = index_of[metrics[k]]
                if head < 0 or fallen[here] or (kinds[head] == TESTING) != (kind == TEST):
                    bad += 1
                    kind = NONE
            kinds[count] = kind
            starts[count] = starts[k] + base
            values[count] = values[k]
            pids[count] = pids[k]
            metrics[count] = metrics[k]
            if (kind == TRAIN or kind == TEST) and iterations[k] < 0:
                iterations[count], times[count] = iterations[head], times[head]
                nets[count] = nets[head] if kind == TEST else -1
            else:
                iterations[count], times[count], nets[count] = iterations[k], times[k], nets[k]
            count += 1
        # The learning rate is said next for its iteration, else before; NaN where the next block may say it.
        near, value = -1, NAN
        for k in range(count):
            if kinds[k] == LR:
                near, value = k, values[k]
            rates[k] = value
        kept = near
        near = -1
        for k in range(count - 1, -1, -1):
            if kinds[k] == LR:
                near = k
            if near >= 0 and iterations[near] == iterations[k]:
                rates[k] = values[near]
            elif near < 0 and (kept < 0 or iterations[kept] != iterations[k]):
                rates[k] = NAN
        # A learning rate is a row of its own only where no other line of its iteration is near.
        near = -1
        for k in range(count - 1, -1, -1):
            kind = kinds[k]
            if kind == LR:
                if near >= 0 and iterations[near] == iterations[k]:
                    kinds[k] = NONE
            elif kind != NONE and kind != TESTING:
                near = k
        near = -1
        kept = 0
        for k in range(count):
            kind = kinds[k]
            if kind == LR and near >= 0 and iterations[near] == iterations[k]:
                continue
            if kind == NONE or kind == TESTING:
                continue
            if kind != LR:
                near = kept
            starts[kept], kinds[kept], times[kept], iterations[kept] = starts[k], kind, times[k], iterations[k]
            values[kept], pids[kept], metrics[kept], nets[kept] = values[k], pids[k], metrics[k], nets[k]
            rates[kept] = rates[k]
            kept += 1
    return kept, bad


def unique(
    const int64_t[::1] iterations, const uint8_t[::1] kinds, const int16_t[::1] metrics, const int16_t[::1] nets,
):
    """Whether iterations rise and no value is said twice at one; False also where there are too many metrics to tell."""
    cdef int64_t[4 * 16 * 64] latest
    cdef Py_ssize_t k, rows = len(iterations)
    cdef bint good = True
    cdef int key
    with nogil:
        for k in range(4 * 16 * 64):
            latest[k] = -1
        for k in range(rows):
            if not 0 <= metrics[k] < 64 or not -1 <= nets[k] < 15 or kinds[k] > TEST:
                good = False
                break
            key = (kinds[k] * 16 + nets[k] + 1) * 64 + metrics[k]
            if (k > 0 and iterations[k] < iterations[k - 1]) or latest[key] >= iterations[k]:
                good = False
                break
            latest[key] = iterations[k]
    return good


def pairs(const uint8_t[::1] kinds, const int16_t[::1] metrics, const int16_t[::1] nets):
    """Kind, metric and net of rows, each once, in the order of their first rows."""
    cdef Py_ssize_t k
    cdef int64_t key
    cdef dict seen = {}
    cdef int64_t[1024] recent  # what was seen, without asking the dictionary
    for k in range(1024):
        recent[k] = -1
    for k in range(len(kinds)):
        key = (<int64_t>metrics[k] * 8 + kinds[k]) * 65536 + nets[k] + 1
        if recent[key % 1021] != key:
            recent[key % 1021] = key
            seen.setdefault((kinds[k], metrics[k], nets[k]))
    return list(seen)
