"""Which pairs next: scores of pairs, greedy batches, and studies of both.

What is decided here: what a judgement that nobody made yet is worth.
"""
