"""How this package was built."""


def is_compiled() -> bool:
    """Whether what every call passes through is compiled (`setup.py`)."""
    return not __file__.endswith(".py")


def said() -> str:
    """Return what stands behind how a server serves, where it says so."""
    return ", compiled" if is_compiled() else ""
