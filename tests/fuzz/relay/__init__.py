"""Targets of ``relay``."""
