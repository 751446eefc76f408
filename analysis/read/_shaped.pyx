# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The fast way through a log, compiled: see ``shapes``, which teaches it the shapes.

Every access stays within a line, or within the padding that follows the last one.
"""

from libc.stdint cimport INT64_MIN, int16_t, int32_t, int64_t, uint8_t
from libc.string cimport memchr, memcmp, memcpy

cdef enum:
    MOST = 256  # shapes
    LONGEST = 120  # bytes of a shape

cdef enum:  # kinds, as in rows
    LOSS = 0
    LR = 1
    TRAIN = 2
    TEST = 3
    TESTING = 4
    NONE = 255

cdef struct Shape:
    int size
    int kind
    int metric
    int tail_size
    char[LONGEST] text
    char[LONGEST] tail

# Powers of ten that a float holds exactly: a quotient, or a product, of such a one and of a whole number below 2**53 is
# rounded once, and so is the very float that ``float`` makes of the text.
cdef double[23] POWERS
for _power in range(23):
    POWERS[_power] = float(f"1e{_power}")
cdef double NAN = float("nan")
cdef double INF = float("inf")
cdef int64_t EXACT = <int64_t>1 << 53  # whole numbers up to there are exact in a float
cdef int64_t NO_DAY = -(<int64_t>1 << 40)


cdef class Table:
    """The shapes that are known; it grows while several threads read blocks with it."""

    cdef Shape[MOST] shapes
    cdef readonly int count

    def add(self, bytes text, int kind, int metric, bytes tail):
        """One more: ``text`` is what stands between process id and number, ``tail`` begins what follows an output."""
        if self.count >= MOST or len(text) > LONGEST or len(tail) > LONGEST:
            return False
        cdef Shape* shape = &self.shapes[self.count]
        shape.size, shape.kind, shape.metric, shape.tail_size = len(text), kind, metric, len(tail)
        memcpy(shape.text, <char*>text, shape.size)
        memcpy(shape.tail, <char*>tail, shape.tail_size)
        self.count += 1
        return True


cdef inline int digit(const char* at) noexcept nogil:
    cdef int value = at[0] - 48
    return value if 0 <= value <= 9 else -1


cdef inline const char* whole(const char* at, int64_t* value) noexcept nogil:
    """Digits, as many as there are up to 18; the place after them, NULL where there is none or more."""
    cdef const char* begin = at
    cdef int one
    value[0] = 0
    while True:
        one = digit(at)
        if one < 0:
            break
        if at - begin >= 18:
            return NULL
        value[0] = value[0] * 10 + one
        at += 1
    return at if at > begin else NULL


cdef const char* number(const char* at, double* value) noexcept nogil:
    """A number; NULL where there is none, or one that must be rounded with more care."""
    cdef bint minus = at[0] == b"-"
    cdef int64_t mantissa = 0
    cdef int digits = 0, power = 0, exponent = 0, one
    cdef bint less
    at += minus
    while True:
        one = digit(at)
        if one < 0:
            break
        mantissa = mantissa * 10 + one
        digits += 1
        at += 1
        if digits > 17:
            return NULL
    if not digits:
        if memcmp(at, b"nan", 3) == 0:
            value[0] = NAN
        elif memcmp(at, b"inf", 3) == 0:
            value[0] = -INF if minus else INF
        else:
            return NULL
        return at + 3
    if at[0] == b".":
        at += 1
        while True:
            one = digit(at)
            if one < 0:
                break
            mantissa = mantissa * 10 + one
            digits += 1
            power -= 1
            at += 1
            if digits > 17:
                return NULL
    if at[0] == b"e":
        less = at[1] == b"-"
        if not less and at[1] != b"+":
            return NULL
        at += 2
        if digit(at) < 0:
            return NULL
        while True:
            one = digit(at)
            if one < 0:
                break
            exponent = exponent * 10 + one
            at += 1
            if exponent > 1000:
                return NULL
        power += -exponent if less else exponent
    if mantissa > EXACT or power > 22 or power < -22:
        return NULL
    value[0] = mantissa * POWERS[power] if power >= 0 else mantissa / POWERS[-power]
    if minus:
        value[0] = -value[0]
    return at


cdef inline int two(const char* at) noexcept nogil:
    """Two digits, or a large negative number."""
    cdef int tens = digit(at), ones = digit(at + 1)
    return tens * 10 + ones if tens >= 0 and ones >= 0 else -1000


cdef int64_t days(int year, int month, int day) noexcept nogil:
    """Days from 1970-01-01 in the Gregorian calendar; ``NO_DAY`` where there is no such day."""
    cdef int length = 31
    if month in (4, 6, 9, 11):
        length = 30
    elif month == 2:
        length = 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    if not (1 <= year <= 9999 and 1 <= month <= 12 and 1 <= day <= length):
        return NO_DAY
    # Years that begin in March: a leap day is then the last of its year.
    cdef int64_t y = year - (month <= 2)
    cdef int64_t months = (month + 9) % 12
    return y * 365 + y // 4 - y // 100 + y // 400 + (153 * months + 2) // 5 + day - 1 - 719468


cdef inline const char* message(const char* at, const char* end) noexcept nogil:
    """Where the message begins whose `` pid file:line] `` begins at ``at``, blanks passed over; NULL without."""
    at = <const char*>memchr(at, 93, end - at)
    if at == NULL:
        return NULL
    at += 1
    while at < end and at[0] == 32:
        at += 1
    return at


def read(
    const uint8_t[::1] data, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t line, bint teach, int unknown_year,
    Table table, int64_t[::1] starts, uint8_t[::1] kinds, int64_t[::1] times, int64_t[::1] iterations,
    double[::1] values, int32_t[::1] pids, int16_t[::1] metrics, int16_t[::1] nets,
):
    """Read the lines from offset ``begin`` to ``end``, the first of which is number ``line``, into the columns.

    ``starts`` (the offset of each line) is filled for all, the other columns for the lines of a known shape. Stops
    where the columns are full. Returns the number of the next line, its offset, and whether (with ``teach``) the line before it may be of a new shape: then
    reading has stopped there. Padding of at least 32 line ends must follow ``end``.
    """
    cdef const char* base = <const char*>&data[0]
    cdef const char* at = base + begin
    cdef const char* last = base + end
    cdef const char* stop
    cdef const char* text
    cdef const char* here
    cdef Shape* shape
    cdef Py_ssize_t room = len(kinds)
    cdef int known = table.count
    cdef int[MOST] follower  # lines come in cycles: which shape followed this one last
    cdef int previous = 0, found, skip, kind, k, one
    cdef int hour, minute, second, year
    cdef int64_t pid, iteration, net, micro, day = 0
    cdef const char* date = NULL  # the date that ``day`` is of
    cdef double value, weighted
    cdef bint unknown = False
    with nogil:
        for k in range(known):
            follower[k] = k
        while at < last and line < room:
            stop = <const char*>memchr(at, 10, last - at)
            if stop == NULL:
                stop = last
            starts[line] = at - base
            kinds[line] = NONE
            line += 1
            text = at
            at = stop + 1
            if stop - text < 40 or text[0] != b"I":
                continue
            if text[5] == 32:
                skip = 21
            elif text[9] == 32:
                skip = 25
            else:
                continue
            here = text + skip
            if here[0] != 32 or text[skip - 7] != b"." or text[skip - 10] != b":" or text[skip - 13] != b":":
                continue
            while here[0] == 32:
                here += 1
            here = whole(here, &pid)
            if here == NULL or here[0] != 32 or pid > 0x7FFFFFFF:
                continue
            # Which shape?
            found = -1
            if known:
                k = follower[previous]
                if stop - here > table.shapes[k].size and memcmp(here, table.shapes[k].text, table.shapes[k].size) == 0:
                    found = k
                else:
                    for k in range(known):
                        if (
                            stop - here > table.shapes[k].size
                            and memcmp(here, table.shapes[k].text, table.shapes[k].size) == 0
                        ):
                            found = k
                            follower[previous] = k
                            break
            if found < 0:
                if teach:
                    here = message(here, stop)
                    if here != NULL and stop - here > 12 and (
                        memcmp(here, b"Iteration ", 10) == 0
                        or memcmp(here, b"Train net ", 10) == 0
                        or memcmp(here, b"Test net ", 9) == 0
                    ):
                        unknown = True
                        break
                continue
            shape = &table.shapes[found]
            previous = found
            kind = shape.kind
            here += shape.size
            # Its numbers.
            iteration, net, value = -1, -1, NAN
            if kind == LOSS or kind == LR or kind == TESTING:
                here = whole(here, &iteration)
                if here == NULL or iteration > EXACT:
                    continue
                if here[0] == 32 and here[1] == b"(":
                    here += 2
                    while here < stop and here[0] != b")" and here[0] != b"(":
                        here += 1
                    if here >= stop or here[0] != b")":
                        continue
                    here += 1
                if kind == TESTING:
                    if stop - here < 18 or memcmp(here, b", Testing net (#", 16) != 0:
                        continue
                    here = whole(here + 16, &net)
                    if here == NULL or net > 999 or here[0] != b")" or here + 1 != stop:
                        continue
                elif kind == LOSS:
                    if stop - here < 10 or memcmp(here, b", loss = ", 9) != 0:
                        continue
                    here = number(here + 9, &value)
                    if here != stop:
                        continue
                else:
                    if stop - here < 8 or memcmp(here, b", lr = ", 7) != 0:
                        continue
                    here = number(here + 7, &value)
                    if here == NULL or (here != stop and not (here[0] == b"," and here[1] == 32)):
                        continue
            else:
                here = number(here, &value)
                if here == NULL:
                    continue
                if shape.tail_size == 0:
                    if here != stop:
                        continue
                elif (
                    stop - here < shape.tail_size + 7
                    or memcmp(here, shape.tail, shape.tail_size) != 0
                    or memcmp(stop - 6, b" loss)", 6) != 0
                    or number(here + shape.tail_size, &weighted) != stop - 6
                ):
                    continue
            # Its time.
            if date == NULL or memcmp(text, date, skip - 15) != 0:
                one = skip - 20
                year = unknown_year if skip == 21 else two(text + 1) * 100 + two(text + 3)
                day = days(year, two(text + one), two(text + one + 2))
                date = text
            hour, minute, second = two(text + skip - 15), two(text + skip - 12), two(text + skip - 9)
            micro = two(text + skip - 6) * 10000 + two(text + skip - 4) * 100 + two(text + skip - 2)
            if not (0 <= hour < 24 and 0 <= minute < 60 and 0 <= second < 60) or micro < 0:
                continue
            if day != NO_DAY:
                times[line - 1] = (((day * 24 + hour) * 60 + minute) * 60 + second) * 1000000 + micro
            else:
                times[line - 1] = INT64_MIN
            kinds[line - 1] = kind
            iterations[line - 1] = iteration
            values[line - 1] = value
            pids[line - 1] = pid
            metrics[line - 1] = shape.metric
            nets[line - 1] = net
    return line, at - base, unknown
