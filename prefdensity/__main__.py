"""`python -m prefdensity` is the command line."""

from prefdensity.cli.main import main

main()
