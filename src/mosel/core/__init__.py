"""The ground floor: words, tables, states, errors, clocks and files. Imports nothing above it."""
