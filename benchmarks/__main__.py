"""`python -m benchmarks NAME`."""

import sys

from benchmarks import imports

COMMANDS = {"imports": imports.main}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        sys.exit(f"usage: python -m benchmarks {{{','.join(COMMANDS)}}}")
    COMMANDS[sys.argv[1]]()
