"""The version, in one place: what is written here is what every bundle, batch and wheel says."""

__version__ = "0.1.0"
