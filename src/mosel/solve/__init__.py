"""Mathematics on plain arrays: frontiers (§5.1) and assignments (§5.2). Knows no job, clock or file."""
