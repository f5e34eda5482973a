"""The command `mailing`. Little is loaded before `run`, so that Ctrl-C ends even the start without a traceback."""

import gc
import os
import sys


def run() -> None:
    _open_standard_streams()
    _collect_rarely()
    try:
        from mailing.cli.main import main  # noqa: PLC0415 - it takes most of the start

        main()
    except KeyboardInterrupt:  # the commands themselves are ended by click, with the same words
        sys.stderr.write("\nAborted!\n")
        sys.exit(1)


def _collect_rarely() -> None:
    """Collect cyclic garbage a thirtieth as often as by default: modules, calls and requests leave hardly any.

    Collections took 6 % of the processor time of loading modules, a tenth of a worker's and a third of an API's that
    takes receipts.
    """
    gc.set_threshold(20_000, 20, 20)


def _open_standard_streams() -> None:
    """Replace each closed standard stream by /dev/null, else the first socket would take its number."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    sys.stdin, sys.stdout, sys.stderr = (
        sys.stdin or os.fdopen(0),
        sys.stdout or os.fdopen(1, "w"),
        sys.stderr or os.fdopen(2, "w"),
    )


if __name__ == "__main__":
    run()
