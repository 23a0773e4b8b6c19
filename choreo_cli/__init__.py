"""The domain and the kernel of choreo."""

__version__ = "0.1.0"
__released__ = "2026-11-21"
