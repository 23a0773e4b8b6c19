"""Tracks loaded once: decoded, their features kept in the output folder, beats from charts where there are any."""
