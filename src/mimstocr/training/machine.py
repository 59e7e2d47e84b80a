"""How this process uses the machine it is on."""

from __future__ import annotations

import ctypes
import sys

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEEP_BYTES = 1 << 30


def settle(threads: int) -> None:
    """Use so many torch threads, and keep freed memory for the next step.

    A recurrent layer takes and frees tens of megabytes a step. glibc hands blocks of that size back to the
    system and faults them in anew, page by page: on two cores that is 40 % of the time of an LSTM step, which
    is why its thresholds are raised. Elsewhere than on glibc nothing is changed.
    """
    torch.set_num_threads(threads)
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(M_MMAP_THRESHOLD, KEEP_BYTES)
            mallopt(M_TRIM_THRESHOLD, KEEP_BYTES)
