"""Whether the process is to end: a command was interrupted, and its results are not put in place any more.

A library may have dropped the exception, so that the command goes on for a while.
"""

from __future__ import annotations

import threading

ENDING = threading.Event()
