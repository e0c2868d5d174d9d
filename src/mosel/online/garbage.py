"""Pauses of the interpreter while it serves: collecting cyclic garbage, and threads that wait for each other.

A full collection looks at every object that is alive. In a process that has loaded compiled code and models
these are a million, and more with every job that waits: a tenth of a second in which nobody is answered. What
was loaded stays for good, so it is not looked at again; what a job leaves behind is freed by reference counts.
"""

import gc
import sys

YOUNG, MIDDLE, OLD = 5_000, 5, 200
"""Objects, and collections of the next younger generation, until each is collected: what survives 5,000 new
objects is soon seen as long-lived, and the long-lived, the queue among them, are looked at after 5 million.
"""

SWITCH_S = 0.0005
"""How long one thread runs Python code while another, the event loop perhaps, waits to."""


def keep_pauses_short() -> None:
    """Take what is alive now as there for good; called once all is loaded and warm."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
    sys.setswitchinterval(SWITCH_S)
