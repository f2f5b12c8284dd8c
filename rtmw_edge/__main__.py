"""`rtmw-edge`, and `python -m rtmw_edge`."""

import sys


def main() -> None:
    """Run the command line; Ctrl-C while its modules are still imported is no traceback either."""
    try:
        from .cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; nothing half-written was left\n")
        raise SystemExit(130) from None
    run()


if __name__ == "__main__":
    main()
