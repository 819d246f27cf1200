"""`python -m cohobate`: the command line."""

from cohobate.cli.main import main

if __name__ == "__main__":
    main()
