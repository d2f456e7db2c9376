"""Tables: comparisons, choices from sets, ratings, their readers and simulated ones. No tensors.

What is decided here: what a user's file means, and what of it is refused. The shipped examples lie here too.
"""
