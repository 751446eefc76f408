# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Rows to the text of curves.csv, compiled: a log of gigabytes has a hundred million numbers to print."""

from cpython.bytearray cimport PyByteArray_AsString, PyByteArray_FromStringAndSize, PyByteArray_Resize
from libc.math cimport copysign, fabs, rint
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

cdef enum:
    ROOM = 200  # bytes that the numbers of a row need at most, with their commas

# Powers of ten that a float holds exactly.
cdef double[17] POWERS
cdef int64_t[17] WHOLE_POWERS
for _power in range(17):
    POWERS[_power] = float(f"1e{_power}")
    WHOLE_POWERS[_power] = 10**_power


cdef char* whole(char* out, int64_t value) noexcept nogil:
    cdef char[24] digits
    cdef int count = 0
    if value < 0:
        out[0] = b"-"
        out += 1
        value = -value
    while True:
        digits[count] = 48 + value % 10
        count += 1
        value //= 10
        if not value:
            break
    while count:
        count -= 1
        out[0] = digits[count]
        out += 1
    return out


cdef char* decimal(char* out, double value, int places) noexcept nogil:
    """A number of at most so many decimal places: with one at least, without zeros behind."""
    cdef int64_t scaled = <int64_t>rint(fabs(value) * POWERS[places])
    cdef int64_t unit = WHOLE_POWERS[places], rest
    cdef int k
    if value < 0:
        out[0] = b"-"
        out += 1
    out = whole(out, scaled // unit)
    out[0] = b"."
    out += 1
    rest = scaled % unit
    for k in range(places - 1, -1, -1):
        out[k] = 48 + rest % 10
        rest //= 10
    while places > 1 and out[places - 1] == b"0":
        places -= 1
    return out + places


cdef char* printed(char* out, double value) noexcept with gil:
    text = b"NaN" if value != value else repr(value).encode()
    memcpy(out, <char*>text, len(text))
    return out + len(text)


cdef char* shortest(char* out, double value) noexcept nogil:
    """The shortest text that is read back as the same number."""
    cdef double size = fabs(value), scaled
    cdef int places
    if size < 1e9 and (size >= 1e-5 or (size == 0 and copysign(1.0, value) > 0)):  # "-0.0" keeps its sign
        # A whole number below 2**53 over a power of ten is rounded once, as the text is when it is read.
        for places in range(1, 16):
            scaled = rint(size * POWERS[places])
            if scaled > 9e15:
                break
            if scaled / POWERS[places] == size:
                return decimal(out, value, places)
    return printed(out, value)


def print_rows(
    dict places, list heads, list names,
    const uint8_t[::1] kinds, const int32_t[::1] metrics, const int16_t[::1] nets,
    const int64_t[::1] iterations, const double[::1] epochs, const double[::1] seconds, int64_t session,
    const double[::1] rates, const double[::1] values,
):
    """The lines of rows.

    A line is ``heads[place]``, iteration, epoch, seconds, session, lr, ``names[place]``, value. ``places`` gives the
    place by kind, metric and net. Epochs are rounded to 6 decimal places, seconds to 3; missing ones (NaN) are left
    out, as are learning rates.
    """
    cdef Py_ssize_t rows = len(kinds), k, count = len(heads), place
    cdef size_t longest = ROOM + max(map(len, heads), default=0) + max(map(len, names), default=0)
    cdef bytearray lines = PyByteArray_FromStringAndSize(NULL, rows * longest)
    cdef const char** text = <const char**>malloc(2 * count * sizeof(char*) + 1)
    cdef Py_ssize_t* size = <Py_ssize_t*>malloc(2 * count * sizeof(Py_ssize_t) + 1)
    cdef char* out = PyByteArray_AsString(lines)
    cdef char* begin = out
    cdef char[40] rate_text
    cdef Py_ssize_t rate_size = 0
    cdef double rate = float("nan")
    cdef int64_t key
    cdef int64_t[256] asked  # keys whose place was asked for, without asking the dictionary again
    cdef Py_ssize_t[256] answer
    try:
        if text == NULL or size == NULL:
            raise MemoryError
        for k in range(count):
            text[k], size[k] = <bytes>heads[k], len(heads[k])
            text[count + k], size[count + k] = <bytes>names[k], len(names[k])
        for k in range(256):
            asked[k] = -1
        with nogil:
            for k in range(rows):
                key = (<int64_t>metrics[k] * 8 + kinds[k]) * 65536 + nets[k] + 1
                place = answer[key % 251]
                if asked[key % 251] != key:
                    with gil:
                        place = places[kinds[k], metrics[k], nets[k]]
                    asked[key % 251], answer[key % 251] = key, place
                memcpy(out, text[place], size[place])
                out = whole(out + size[place], iterations[k])
                out[0] = b","
                out += 1
                if epochs[k] == epochs[k]:
                    out = decimal(out, epochs[k], 6) if fabs(epochs[k]) < 1e9 else shortest(out, epochs[k])
                out[0] = b","
                out += 1
                if seconds[k] == seconds[k]:
                    out = decimal(out, seconds[k], 3) if fabs(seconds[k]) < 1e12 else shortest(out, seconds[k])
                out[0] = b","
                out = whole(out + 1, session)
                out[0] = b","
                out += 1
                if rates[k] == rates[k]:
                    if rates[k] != rate:  # they seldom change
                        rate = rates[k]
                        rate_size = shortest(rate_text, rate) - rate_text
                    memcpy(out, rate_text, rate_size)
                    out += rate_size
                place += count
                out[0] = b","
                memcpy(out + 1, text[place], size[place])
                out += 1 + size[place]
                out[0] = b","
                out = shortest(out + 1, values[k])
                out[0] = b"\n"
                out += 1
        PyByteArray_Resize(lines, out - begin)
        return lines
    finally:
        free(text)
        free(size)
