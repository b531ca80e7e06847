"""Measures backups against the ways that people take them now: ``make bench``."""
