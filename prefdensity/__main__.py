"""`python -m prefdensity` is the command line."""

from prefdensity.cli import main

main()
