"""`python -m selfreg`."""

import sys

from selfreg.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
