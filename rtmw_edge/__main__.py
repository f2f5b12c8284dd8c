"""`python -m rtmw_edge` is `rtmw-edge`."""

from .cli import main

main()
