"""One module a command: from words on the command line to calls of the floors below."""
