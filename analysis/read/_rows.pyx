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
    SPEAKERS = 16  # processes whose last lines with an iteration are kept apart

cdef double NAN = float("nan")


cdef class Heads:
    """The last line with an iteration that each process wrote: outputs belong to those. Kept from block to block."""

    cdef int used, here, last
    cdef int64_t[SPEAKERS] speaker, iteration, time
    cdef int[SPEAKERS] net, kind, index
    cdef bint[SPEAKERS] fallen
    cdef double rate  # the learning rate that was said last, NaN before
    cdef Py_ssize_t since  # rows from there on came after it
    cdef Py_ssize_t alone  # rows of learning rates at the end: of iterations of which nothing else is said so far
    cdef int64_t shown  # the iteration of the last other row

    def __cinit__(self):
        self.used, self.here, self.last = 0, -1, -1
        self.rate, self.since, self.alone, self.shown = NAN, 0, 0, -1

    def copy(self):
        """Another that continues from here."""
        cdef Heads other = Heads()
        other.used, other.here, other.last = self.used, self.here, self.last
        other.speaker, other.iteration, other.time = self.speaker, self.iteration, self.time
        other.net, other.kind, other.index, other.fallen = self.net, self.kind, self.index, self.fallen
        other.rate, other.since, other.alone, other.shown = self.rate, self.since, self.alone, self.shown
        return other


def append(
    Heads heads, Py_ssize_t count, int64_t base, const int32_t[::1] index_of,
    const int64_t[::1] starts, const uint8_t[::1] kinds, const int64_t[::1] times, const int64_t[::1] iterations,
    const double[::1] values, const int32_t[::1] pids, const int16_t[::1] metrics, const int16_t[::1] nets,
    int64_t[::1] row_iteration, double[::1] row_value, double[::1] row_rate, int16_t[::1] row_metric,
    int16_t[::1] row_net, uint8_t[::1] row_kind, int64_t[::1] row_offset, int64_t[::1] row_time, int32_t[::1] row_pid,
):
    """Lines to rows, behind the ``count`` rows there are: outputs get iteration, time and net of the line above them.

    ``index_of`` is the number among the outputs of each metric, -1 without one; ``base`` is added to the offsets. The
    columns of rows must have space for every line that is a row. Returns the number of rows there are then, and of
    outputs that have lost the line that says their iteration.

    A row's learning rate is the one said next for its iteration, else the one before; of the first rows without one,
    the next. A learning rate is a row of its own only where the rows around it are of other iterations.
    """
    cdef Py_ssize_t bad = 0, room = len(row_kind), k, j, first, since
    cdef int64_t iteration
    cdef int kind, slot
    with nogil:
        for k in range(len(kinds)):
            kind = kinds[k]
            if kind > TESTING:
                continue
            if kind == LOSS or kind == TESTING or (kind != LR and iterations[k] < 0):
                if heads.here < 0 or heads.speaker[heads.here] != pids[k]:
                    heads.here = -1
                    for slot in range(heads.used if heads.used < SPEAKERS else SPEAKERS):
                        if heads.speaker[slot] == pids[k]:
                            heads.here = slot
                            break
            if kind == LOSS or kind == TESTING:
                if heads.here < 0:
                    heads.here = heads.used % SPEAKERS
                    heads.used += 1
                slot = heads.last = heads.here
                heads.speaker[slot], heads.kind[slot], heads.net[slot] = pids[k], kind, nets[k]
                heads.iteration[slot], heads.time[slot] = iterations[k], times[k]
                heads.index[slot], heads.fallen[slot] = -1, False
                if kind == TESTING:
                    continue
            iteration = iterations[k]
            if kind == LR:
                if values[k] == values[k]:
                    first = 0 if heads.rate != heads.rate else heads.since
                    for j in range(first, count):
                        if heads.rate != heads.rate or row_iteration[j] == iteration:
                            row_rate[j] = values[k]
                    heads.rate, heads.since = values[k], count
                if heads.shown == iteration:
                    continue
                heads.alone += 1
                heads.since += values[k] == values[k]
            elif kind != LOSS and iteration < 0:
                slot = heads.here = heads.last if heads.here < 0 else heads.here
                if slot >= 0:
                    # Numbers of outputs rise from line to line; where not, a line that says an iteration is missing.
                    if 0 <= index_of[metrics[k]] <= heads.index[slot]:
                        heads.fallen[slot] = True
                    heads.index[slot] = index_of[metrics[k]]
                if slot < 0 or heads.fallen[slot] or (heads.kind[slot] == TESTING) != (kind == TEST):
                    bad += 1
                    continue
                iteration = heads.iteration[slot]
            if kind != LR:
                if heads.alone:
                    since = heads.since
                    first = count = count - heads.alone
                    for j in range(first, first + heads.alone):
                        if row_iteration[j] == iteration:
                            heads.since -= j < since
                            continue
                        row_iteration[count], row_value[count], row_rate[count] = row_iteration[j], row_value[j], row_rate[j]
                        row_metric[count], row_net[count], row_kind[count] = row_metric[j], row_net[j], row_kind[j]
                        row_offset[count], row_time[count], row_pid[count] = row_offset[j], row_time[j], row_pid[j]
                        count += 1
                    heads.alone = 0
                heads.shown = iteration
            if count == room:
                break
            row_iteration[count], row_time[count], row_net[count] = iteration, times[k], nets[k]
            if iterations[k] < 0 and kind != LOSS and kind != LR:
                row_time[count], row_net[count] = heads.time[slot], heads.net[slot] if kind == TEST else -1
            row_kind[count], row_value[count], row_metric[count], row_rate[count] = kind, values[k], metrics[k], heads.rate
            row_offset[count], row_pid[count] = starts[k] + base, pids[k]
            count += 1
    return count, bad


def look(
    const int64_t[::1] iterations, const uint8_t[::1] kinds, const int16_t[::1] metrics, const int16_t[::1] nets,
    const int64_t[::1] times, const int32_t[::1] pids,
):
    """The fields of ``columns.RowFacts`` in their order, in one look at the rows."""
    cdef int64_t[4 * 16 * 64] latest
    cdef Py_ssize_t k, rows = len(kinds), losses = 0
    cdef bint one = True, losses_rise = True, times_rise = True, timed = True, once = True
    cdef int64_t first = 0, last = -1, loss = -1, highest_loss = -1, early = INT64_MIN, late = INT64_MIN
    cdef int key
    with nogil:
        for k in range(4 * 16 * 64):
            latest[k] = -1
        if rows:
            first = last = iterations[0]
        for k in range(rows):
            one &= pids[k] == pids[0]
            if kinds[k] == LOSS:
                losses += 1
                losses_rise &= iterations[k] >= loss
                loss = iterations[k]
                highest_loss = loss if loss > highest_loss else highest_loss
            first = iterations[k] if iterations[k] < first else first
            last = iterations[k] if iterations[k] > last else last
            if times[k] == INT64_MIN:
                timed = False
            else:
                times_rise &= k == 0 or times[k] >= times[k - 1]
                early = times[k] if early == INT64_MIN or times[k] < early else early
                late = times[k] if times[k] > late else late
            if once:
                if not 0 <= metrics[k] < 64 or not -1 <= nets[k] < 15 or kinds[k] > TEST:
                    once = False  # too many to tell
                    continue
                key = (kinds[k] * 16 + nets[k] + 1) * 64 + metrics[k]
                once = (k == 0 or iterations[k] >= iterations[k - 1]) and latest[key] < iterations[k]
                latest[key] = iterations[k]
    return one, losses, losses_rise, highest_loss, times_rise and timed, timed, early, late, first, last, once


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
