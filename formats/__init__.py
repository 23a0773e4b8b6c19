"""Contracts on disk: column tables, schemas, validators, readers and writers."""
