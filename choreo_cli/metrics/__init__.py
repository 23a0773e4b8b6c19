"""Measures of performances, models and programs, as entries of `choreo.metrics/1`."""
