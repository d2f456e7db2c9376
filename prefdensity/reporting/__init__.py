"""Pictures and reports.

What is decided here: what a colleague is shown.
"""
