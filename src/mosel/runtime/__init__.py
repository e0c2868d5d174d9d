"""How one batch runs on one device: pad, copy, run, time. The profiler times what the worker executes."""
