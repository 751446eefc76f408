/* Compiled before each file of the stable-interface wheel (see setup.py).
 *
 * Py_buffer and its functions belong to CPython's stable interface since 3.11, unchanged since 3.3. Declared here for
 * 3.10 as well, from the headers of the newer Python that compiles, so that typed memoryviews work there too. Nothing
 * else of 3.11 is let in; the tests load the wheel into each Python there is. */
#include <Python.h>

#if defined(Py_LIMITED_API) && Py_LIMITED_API < 0x030B0000 && PY_VERSION_HEX >= 0x030B0000
#undef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#undef Py_BUFFER_H
#include <pybuffer.h>
#undef Py_LIMITED_API
#define Py_LIMITED_API 0x030A0000
#endif
