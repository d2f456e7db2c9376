"""The command line, one file for each command.

What is decided here: words on a terminal; every command mirrors a call.
"""
