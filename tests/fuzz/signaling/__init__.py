"""Targets of ``signaling``."""
