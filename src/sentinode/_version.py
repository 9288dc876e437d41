"""The version, defined in one place for every bundle, batch and wheel."""

__version__ = "0.1.0"
