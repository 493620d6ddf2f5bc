"""Targets of ``config``."""
