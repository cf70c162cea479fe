"""`python -m gzoo` is the same as `gzoo`."""

from gzoo.cli import main

main()
