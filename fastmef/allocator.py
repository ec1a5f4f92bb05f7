"""Memory that is freed and wanted again at once."""

from __future__ import annotations

import contextlib
import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h


def keep_freed_memory() -> bool:
    """Let glibc's malloc keep large blocks instead of handing them back to the system.

    A training step, or the fusion of a large image, allocates hundreds of blocks of tens of MB. By
    default each is mapped afresh, and the page faults can take longer than the convolutions that
    fill it: 2 to 3 times the time of a convolution was measured on a virtual machine. It concerns
    the whole process, so commands call it, and the library's functions do not, but for train().

    Returns:
        Whether it took effect: only Linux with glibc has this switch.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 2**28))
    return all([mallopt(*setting) for setting in settings])


def release_freed_memory() -> None:
    """Hand memory that glibc's malloc has kept, but that is free, back to the system."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)
