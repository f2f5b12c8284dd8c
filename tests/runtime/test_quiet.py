"""Native code is kept quiet, and the process's own words are not lost."""

from __future__ import annotations

import os
import threading

from rtmw_edge.runtime.quiet import quiet_stderr


def test_two_threads_that_are_quiet_at_once_do_not_wait_and_give_stderr_back() -> None:
    before = os.fstat(2)
    inside, leave = threading.Event(), threading.Event()

    def first() -> None:
        with quiet_stderr():
            inside.set()
            leave.wait(5)

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(5)
    with quiet_stderr():
        pass
    assert not leave.is_set() and os.path.samestat(os.fstat(2), os.stat(os.devnull))
    leave.set()
    thread.join()
    assert os.path.samestat(os.fstat(2), before)
