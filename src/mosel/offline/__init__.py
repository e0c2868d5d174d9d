"""Where 𝒟 and 𝒫 are made: profiler, accuracy, planner (paper §4.2, §5.1)."""
