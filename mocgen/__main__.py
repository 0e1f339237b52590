"""`python -m mocgen`: the same as the console command."""

import sys

from mocgen.cli import main

if __name__ == "__main__":
    sys.exit(main())
