"""A package of its own, because some packages on PyPI install a top-level `tests` that would hide a mere folder."""
