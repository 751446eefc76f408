# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The fast way through a log, compiled: see ``templates``, which teaches it what most lines look like.

Every access stays within a line, or within the padding that follows the last one.
"""

from libc.stdint cimport INT64_MIN, int16_t, int32_t, int64_t, uint8_t
from libc.string cimport memchr, memcmp, memcpy

cdef extern from "<string.h>" nogil:
    char* memmem(const void*, size_t, const void*, size_t)  # glibc's

cdef enum:
    MOST = 256  # templates
    LONGEST = 120  # bytes of a template
    WORDS = 256  # more than are searched for

cdef enum:  # kinds, as in rows
    LOSS = 0
    LR = 1
    TRAIN = 2
    TEST = 3
    TESTING = 4
    ODD = 254  # has one of the words, and is of no known template: to be looked at by the patterns
    NONE = 255

cdef struct Template:
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
cdef int64_t MOST_ITERATIONS = <int64_t>1 << 31  # Caffe counts in an int


cdef class TemplateTable:
    """The templates that are known; it grows while several threads read blocks with it."""

    cdef Template[MOST] known
    cdef readonly int count

    def add(self, bytes text, int kind, int metric, bytes tail):
        """One more: ``text`` is what stands between process id and number, ``tail`` begins what follows an output."""
        if self.count >= MOST or len(text) > LONGEST or len(tail) > LONGEST:
            return False
        cdef Template* template = &self.known[self.count]
        template.size, template.kind, template.metric, template.tail_size = len(text), kind, metric, len(tail)
        memcpy(template.text, <char*>text, template.size)
        memcpy(template.tail, <char*>tail, template.tail_size)
        self.count += 1
        return True


cdef class Words:
    """Finds whether one of some words, of two letters or more, is in a line."""

    cdef char[WORDS][LONGEST] text
    cdef int[WORDS] size
    cdef int count
    cdef uint8_t[65536] first  # the place, from 1, of the first word that begins with these two letters

    def __init__(self, words):
        """Raises ``ValueError`` where there are too many, or one is too long."""
        if len(words) >= WORDS or max(map(len, words)) > LONGEST:
            raise ValueError("too many words")
        for word in sorted(words):
            self.size[self.count] = len(word)
            memcpy(self.text[self.count], <char*>word, len(word))
            self.count += 1
            if self.first[word[0] * 256 + word[1]] == 0:
                self.first[word[0] * 256 + word[1]] = self.count


cdef inline bint has_word(Words words, const char* at, const char* end) noexcept nogil:
    cdef int k
    while end - at > 1:
        k = words.first[<uint8_t>at[0] * 256 + <uint8_t>at[1]] - 1
        while 0 <= k < words.count and at[0] == words.text[k][0] and at[1] == words.text[k][1]:
            if end - at >= words.size[k] and memcmp(at, words.text[k], words.size[k]) == 0:
                return True
            k += 1  # words that begin alike stand together
        at += 1
    return False


cdef inline bint fatal(const char* at, const char* end) noexcept nogil:
    """An ``F0206 `` somewhere in the line."""
    cdef const char* begin = at
    while at < end:
        at = <const char*>memchr(at, 70, end - at)
        if at == NULL:
            return False
        if end - at > 20 and digit(at + 1) >= 0 and digit(at + 2) >= 0 and digit(at + 3) >= 0 and digit(at + 4) >= 0:
            if at[5] == 32 or at[9] == 32:
                return True
        at += 1
    return False


cdef inline const char* after(const char* at, const char* end, const char* text, Py_ssize_t size) noexcept nogil:
    """The place behind the first ``text`` in a line, which is mostly at once; NULL where it is not there."""
    if end - at < size:
        return NULL
    if memcmp(at, text, size) != 0:
        at = memmem(at, end - at, text, size)
    return at + size if at != NULL else NULL


cdef inline int digit(const char* at) noexcept nogil:
    cdef int value = at[0] - 48
    return value if 0 <= value <= 9 else -1


cdef inline const char* whole(const char* at, int64_t* value) noexcept nogil:
    """Digits, as many as there are up to 18; the place after them, NULL for none, or for more."""
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
    """A number; NULL if missing, or if it must be rounded with more care."""
    cdef bint minus = at[0] == b"-", fraction = False, less
    cdef int64_t mantissa = 0, exponent = 0
    cdef int digits = 0, power = 0, one
    at += minus
    while True:
        one = digit(at)
        if one >= 0:
            mantissa = mantissa * 10 + one
            digits += 1
            power -= fraction
        elif at[0] == b"." and digits and not fraction:
            fraction = True
        else:
            break
        at += 1
        if digits > 17:
            return NULL
    if not digits:
        value[0] = NAN if at[0] == b"n" else -INF if minus else INF
        return at + 3 if memcmp(at, b"nan", 3) == 0 or memcmp(at, b"inf", 3) == 0 else NULL
    if at[0] == b"e":
        less = at[1] == b"-"
        if not less and at[1] != b"+":
            return NULL
        at = whole(at + 2, &exponent)
        if at == NULL or exponent > 1000:
            return NULL
        power += -exponent if less else exponent
    if mantissa > EXACT or power > 22 or power < -22:
        return NULL
    value[0] = mantissa * POWERS[power] if power >= 0 else mantissa / POWERS[-power]
    if minus:
        value[0] = -value[0]
    return at


cdef inline bint digits(const char* at, int count) noexcept nogil:
    cdef int k
    for k in range(count):
        if digit(at + k) < 0:
            return False
    return True


cdef inline int two(const char* at) noexcept nogil:
    """Two digits, or a large negative number."""
    cdef int tens = digit(at), ones = digit(at + 1)
    return tens * 10 + ones if tens >= 0 and ones >= 0 else -1000


cdef inline int parse_line(
    const char* text, const char* stop, bint teach, TemplateTable table, uint8_t* seen, int* follower, int* previous,
    int64_t* iteration, double* value, int64_t* pid, int64_t* net, int* metric, bint* prefixed,
) noexcept nogil:
    """The kind of a line and its fields; ``NONE`` where it is of no template, -1 where it may teach a new one."""
    cdef const char* here
    cdef const char* begin
    cdef Template* template
    cdef int skip, found = -1, k, kind
    cdef double weighted
    if stop - text < 40 or text[0] != b"I":
        return NONE
    if text[5] == 32:
        skip = 21
    elif text[9] == 32:
        skip = 25
    else:
        return NONE
    here = text + skip
    if here[0] != 32 or text[skip - 7] != b"." or text[skip - 10] != b":" or text[skip - 13] != b":":
        return NONE
    while here[0] == 32:
        here += 1
    here = whole(here, pid)
    if here == NULL or here[0] != 32 or pid[0] > 0x7FFFFFFF:
        return NONE
    prefixed[0] = True
    if table.count:
        k = follower[previous[0]]
        if stop - here > table.known[k].size and memcmp(here, table.known[k].text, table.known[k].size) == 0:
            found = k
        else:
            for k in range(table.count if table.count < MOST else MOST):
                if stop - here > table.known[k].size and memcmp(here, table.known[k].text, table.known[k].size) == 0:
                    found = k
                    follower[previous[0]] = k
                    break
    if found < 0:
        return -1 if teach else NONE
    if not seen[found]:
        # A line that a flipped bit garbled is believed where a whole one like it came before in its log.
        if not digits(text + 1, skip - 17) or not digits(text + skip - 6, 6):
            return NONE
        seen[found] = 1
    template = &table.known[found]
    previous[0] = found
    kind = template.kind
    here += template.size
    iteration[0], net[0], value[0], metric[0] = -1, -1, NAN, template.metric
    if kind == LOSS or kind == LR or kind == TESTING:
        here = whole(here, iteration)
        if here == NULL or iteration[0] > MOST_ITERATIONS:
            return NONE
        if here[0] != b"," and here[0] != 32:
            return NONE
        if kind == TESTING:
            if stop - here < 18 or memcmp(here, b", Testing net (#", 16) != 0:
                return NONE
            here = whole(here + 16, net)
            return TESTING if here != NULL and net[0] <= 999 and here[0] == b")" and here + 1 == stop else NONE
        begin = here
        here = after(here, stop, b", loss = ", 9) if kind == LOSS else after(here, stop, b", lr = ", 7)
        # Not of another line that a cut one has run into.
        if here == NULL or here - begin > 200 or (here - begin > 9 and after(begin, here, b"Iteration", 9) != NULL):
            return NONE
        here = number(here, value)
        if here == NULL or (here != stop and here[0] != 32 and not (here[0] == b"," and here[1] == 32)):
            return NONE
        if here != stop and here[0] == 32 and here[1] == 32 and here[2] == 32:  # its rest may stand further on
            return NONE
    else:
        here = number(here, value)
        if here == NULL:
            return NONE
        if template.tail_size and (
            stop - here < template.tail_size + 7
            or memcmp(here, template.tail, template.tail_size) != 0
            or memcmp(stop - 6, b" loss)", 6) != 0
            or number(here + template.tail_size, &weighted) != stop - 6
        ):
            return NONE
        if template.tail_size == 0 and here != stop:
            return NONE
    # A value at the end of a line continues in the next where something wrapped the text.
    if here == stop and (digit(stop + 1) >= 0 or stop[1] == b"." or stop[1] == b"e" or stop[1] == b"#"):
        return NONE
    return kind


def read(
    const uint8_t[::1] data, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t line, bint teach, Words teaching,
    midnight, TemplateTable table, uint8_t[::1] seen, Words words, bint every_line,
    int64_t[::1] starts, uint8_t[::1] kinds, int64_t[::1] times, int64_t[::1] iterations,
    double[::1] values, int32_t[::1] pids, int32_t[::1] metrics, int16_t[::1] nets,
):
    """Read the lines from offset ``begin`` to ``end``, the first of which is number ``line``, into the columns.

    ``midnight`` (``lines``) gives the time of a day; ``seen`` (256 bytes) says which templates the log has shown
    already. ``starts`` (the offset of each line) and ``kinds`` are filled for all, the other columns for the lines of a
    known template. Lines of no template are ``ODD`` where one of ``words`` is in them (or ``every_line`` says so), else
    ``NONE``. Stops where the columns are full. Returns the number of the next line, its offset, whether (with
    ``teach``) the line before it has one of the words of ``teaching`` and may be of a new template (then reading has
    stopped there), and whether any line had glog's prefix. Padding of at least 32 line ends must follow ``end``.
    """
    cdef const char* base = <const char*>&data[0]
    cdef const char* at = base + begin
    cdef const char* last = base + end
    cdef const char* stop
    cdef const char* text
    cdef Py_ssize_t room = len(kinds)
    cdef int[MOST] follower  # lines come in cycles: which template followed this one last
    cdef int previous = 0, skip, kind, k, one, metric = -1
    cdef int64_t hour, minute, second, pid = 0, iteration = -1, net = -1, micro, day = 0
    cdef const char* date = NULL  # the date that ``day`` is of
    cdef double value = NAN
    cdef bint unknown = False, prefixed = False
    with nogil:
        for k in range(MOST):
            follower[k] = k
        while at < last and line < room:
            stop = <const char*>memchr(at, 10, last - at)
            if stop == NULL:
                stop = last
            starts[line] = at - base
            text = at
            at = stop + 1
            kind = parse_line(
                text, stop, teach, table, &seen[0], follower, &previous, &iteration, &value, &pid, &net, &metric, &prefixed
            )
            line += 1
            if kind == -1 and not has_word(teaching, text, stop):
                kind = NONE
            if kind == -1:
                unknown = True
                break
            if kind == NONE:
                kinds[line - 1] = ODD if every_line or has_word(words, text, stop) or fatal(text, stop) else NONE
                continue
            kinds[line - 1] = kind
            skip = 21 if text[5] == 32 else 25
            if date == NULL or memcmp(text, date, skip - 15) != 0:
                with gil:
                    told = midnight(text[1 : skip - 20], text[skip - 20 : skip - 18], text[skip - 18 : skip - 16])
                    day = INT64_MIN if told is None else told
                date = text
            hour, minute, second = two(text + skip - 15), two(text + skip - 12), two(text + skip - 9)
            micro = two(text + skip - 6) * 10000 + two(text + skip - 4) * 100 + two(text + skip - 2)
            if not (0 <= hour < 24 and 0 <= minute < 60 and 0 <= second < 60) or micro < 0:
                kinds[line - 1] = ODD
                continue
            times[line - 1] = day if day == INT64_MIN else day + ((hour * 60 + minute) * 60 + second) * 1000000 + micro
            iterations[line - 1] = iteration
            values[line - 1] = value
            pids[line - 1] = pid
            metrics[line - 1] = metric
            nets[line - 1] = net
    return line, at - base, unknown, prefixed
