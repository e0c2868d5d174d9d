"""The edge: the network interface and its protocol codes. Knows the engine, not how it decides."""
