"""`python -m bittern`: the command line."""

import sys

from bittern.cli import main

if __name__ == "__main__":
    sys.exit(main())
