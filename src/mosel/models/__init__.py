"""What can be served: the interface (`base.py`), how a name becomes a model (`registry.py`), and the zoo."""
