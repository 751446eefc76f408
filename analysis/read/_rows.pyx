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
    """The last line with an iteration that each process wrote, and its learning rate. Kept from block to block."""

    cdef int used, here, last
    cdef int64_t[SPEAKERS] speaker, iteration, time
    cdef int[SPEAKERS] net, kind, index
    cdef bint[SPEAKERS] fallen
    cdef double[SPEAKERS] own  # the learning rate that the process said last, NaN before
    cdef Py_ssize_t[SPEAKERS] since  # its rows from there on came after it
    cdef int64_t[SPEAKERS] shown  # the iteration of its last row that is no learning rate
    cdef double rate  # the one that was said last, whoever said it
    cdef Py_ssize_t since_any
    cdef int64_t shown_any
    cdef Py_ssize_t alone  # rows of learning rates at the end: of iterations of which nothing else is said so far

    def __cinit__(self):
        self.used, self.here, self.last = 0, -1, -1
        self.rate, self.since_any, self.shown_any, self.alone = NAN, 0, -1, 0

    def copy(self):
        """Another that continues from here."""
        cdef Heads other = Heads()
        other.used, other.here, other.last = self.used, self.here, self.last
        other.speaker, other.iteration, other.time = self.speaker, self.iteration, self.time
        other.net, other.kind, other.index, other.fallen = self.net, self.kind, self.index, self.fallen
        other.own, other.since, other.shown = self.own, self.since, self.shown
        other.rate, other.since_any, other.shown_any, other.alone = self.rate, self.since_any, self.shown_any, self.alone
        return other

    cdef int slot_of(self, int64_t pid) noexcept nogil:
        cdef int slot
        for slot in range(self.used if self.used < SPEAKERS else SPEAKERS):
            if self.speaker[slot] == pid:
                return slot
        return -1

    cdef int new_slot(self, int64_t pid, Py_ssize_t count) noexcept nogil:
        cdef int slot = self.used % SPEAKERS
        self.used += 1
        self.speaker[slot], self.iteration[slot], self.kind[slot] = pid, -1, LOSS
        self.own[slot], self.since[slot], self.shown[slot] = NAN, count, -1
        return slot

    cdef void without(self, Py_ssize_t row) noexcept nogil:
        """A row is left out after all, and those behind it come one earlier."""
        cdef int slot
        for slot in range(self.used if self.used < SPEAKERS else SPEAKERS):
            self.since[slot] -= row < self.since[slot]
        self.since_any -= row < self.since_any

    cdef bint is_silent(self, int64_t pid) noexcept nogil:
        """Whether a process has said no learning rate."""
        cdef int slot = self.slot_of(pid)
        return slot < 0 or self.own[slot] != self.own[slot]


def append(
    Heads heads, Py_ssize_t count, int64_t base, const int32_t[::1] index_of,
    const int64_t[::1] starts, const uint8_t[::1] kinds, const int64_t[::1] times, const int64_t[::1] iterations,
    const double[::1] values, const int32_t[::1] pids, const int32_t[::1] metrics, const int16_t[::1] nets,
    int64_t[::1] row_iteration, double[::1] row_value, double[::1] row_rate, int32_t[::1] row_metric,
    int16_t[::1] row_net, uint8_t[::1] row_kind, int64_t[::1] row_offset, int64_t[::1] row_time, int32_t[::1] row_pid,
):
    """Lines to rows, behind the ``count`` rows there are: outputs get iteration, time and net of the line above them.

    ``index_of`` is the number among the outputs of each metric, -1 without one; ``base`` is added to the offsets. The
    columns of rows must have space for every line that is a row. Returns the number of rows there are then, and of
    outputs that have lost the line that says their iteration.

    A row's learning rate is the one that its process says next, for its iteration; else the last one that it said; of
    its first rows the next. Where the iterations of a process fall, it has begun anew. A process that says none (a
    thread) has that of the others. A learning rate is a row of its own only where the rows around it are of other
    iterations.
    """
    cdef Py_ssize_t bad = 0, room = len(row_kind), k, j, first, before
    cdef int64_t iteration
    cdef int kind, slot
    cdef bint theirs
    cdef double known
    with nogil:
        for k in range(len(kinds)):
            kind = kinds[k]
            if kind > TESTING:
                continue
            if heads.here < 0 or heads.speaker[heads.here] != pids[k]:
                heads.here = heads.slot_of(pids[k])
                if heads.here < 0 and (kind == LOSS or kind == TESTING or kind == LR):
                    heads.here = heads.new_slot(pids[k], count)
            slot = heads.here
            iteration = iterations[k]
            if kind == LOSS or kind == TESTING:
                if iteration < 0:  # a test of Caffe of 2013
                    iteration = heads.iteration[slot]
                    if iteration < 0:
                        continue
                if iteration < heads.iteration[slot] and heads.rate == heads.rate:
                    heads.own[slot], heads.since[slot] = NAN, count
                heads.last = slot
                heads.kind[slot], heads.net[slot] = kind, nets[k]
                heads.iteration[slot], heads.time[slot] = iteration, times[k]
                heads.index[slot], heads.fallen[slot] = -1, False
                if kind == TESTING:
                    continue
            elif kind == LR:
                if values[k] == values[k]:
                    for j in range(min(heads.since[slot], heads.since_any), count):
                        if row_kind[j] == LR and row_value[j] == row_value[j]:
                            continue
                        if row_pid[j] == pids[k]:
                            theirs = j >= heads.since[slot]
                            known = heads.own[slot]
                        else:
                            theirs = j >= heads.since_any and heads.is_silent(row_pid[j])
                            known = heads.rate
                        if theirs and (known != known or row_iteration[j] == iteration):
                            row_rate[j] = values[k]
                    heads.own[slot] = heads.rate = values[k]
                    heads.since[slot] = heads.since_any = count
                if (heads.shown[slot] if heads.shown[slot] >= 0 else heads.shown_any) == iteration:
                    continue
                heads.alone += 1
            elif iteration < 0:
                if slot < 0 or heads.iteration[slot] < 0:
                    slot = heads.last
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
                    before = count
                    first = count = count - heads.alone
                    for j in range(first, before):
                        if row_iteration[j] == iteration:
                            heads.without(count)
                            continue
                        row_iteration[count], row_value[count], row_rate[count] = row_iteration[j], row_value[j], row_rate[j]
                        row_metric[count], row_net[count], row_kind[count] = row_metric[j], row_net[j], row_kind[j]
                        row_offset[count], row_time[count], row_pid[count] = row_offset[j], row_time[j], row_pid[j]
                        count += 1
                    heads.alone = 0
                heads.shown_any = iteration
                if slot >= 0:
                    heads.shown[slot] = iteration
            if count == room:
                break
            row_iteration[count], row_time[count], row_net[count] = iteration, times[k], nets[k]
            if iterations[k] < 0 and kind != LOSS and kind != LR:
                row_time[count], row_net[count] = heads.time[slot], heads.net[slot] if kind == TEST else -1
            row_kind[count], row_value[count], row_metric[count] = kind, values[k], metrics[k]
            row_rate[count] = heads.rate
            if slot >= 0 and heads.own[slot] == heads.own[slot]:
                row_rate[count] = heads.own[slot]
            row_offset[count], row_pid[count] = starts[k] + base, pids[k]
            count += 1
    return count, bad


def look(
    const int64_t[::1] iterations, const uint8_t[::1] kinds, const int32_t[::1] metrics, const int16_t[::1] nets,
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


def pairs(const uint8_t[::1] kinds, const int32_t[::1] metrics, const int16_t[::1] nets):
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
