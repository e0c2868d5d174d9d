"""Where 𝒫 is used: the pure scheduler, and the driver side that feeds it from real workers."""
