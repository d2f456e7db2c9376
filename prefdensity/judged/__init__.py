"""Judged units: labels, two outputs and verdicts on which is closer; programs of them, and what they expect.

What is decided here: the law of a label that nobody bought.
"""
