"""Readers for the formats other tools write. Each file is sniffed by content; nothing here executes data."""
