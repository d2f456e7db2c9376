"""Checks of a fit: replicated tables, statistics, causes, and simulation-based calibration.

What is decided here: what in a table speaks against a program, and what to try next.
"""
