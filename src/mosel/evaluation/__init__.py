"""The laboratory: workloads, the simulator, replays against a live server, results, reports."""
