"""The domain and the kernel of choreo."""

__version__ = "0.1.0"
