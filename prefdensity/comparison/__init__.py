"""Comparison of programs: expected log predictive density by unit, and its differences.

What is decided here: which of several programs predicts better, and how sure that is.
"""
