"""Front doors: processes that share the port and hand each call to one of several groups, as bytes."""
