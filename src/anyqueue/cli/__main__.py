"""`python -m anyqueue.cli` is `anyqueue`."""

from anyqueue.cli import main

main()
