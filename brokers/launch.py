"""Start, stop and disturb the brokers that the tests and the examples use: python brokers/launch.py --help."""

import sys

from launcher.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
