"""Posteriors: draws and how far they can be trusted, questions to them, and their files.

What is decided here: what a fit says, in whose words, and with which warnings.
"""
