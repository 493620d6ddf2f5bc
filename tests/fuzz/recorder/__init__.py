"""Targets of ``recorder``."""
