"""Programs: cells, layers, composition, outcome laws, and running a program.

What is decided here: what a program is, and what of a table it sees.
"""
