"""Native code is kept quiet, and the process's own words are not lost."""

from __future__ import annotations

import os
import threading

from rtmw_edge.runtime.quiet import quiet_stderr


def test_two_threads_that_are_quiet_at_once_give_stderr_back() -> None:
    before = os.fstat(2)
    inside, leave = threading.Event(), threading.Event()

    def first() -> None:
        with quiet_stderr():
            inside.set()
            leave.wait(5)

    def second() -> None:
        with quiet_stderr():
            pass

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert inside.wait(5)
    threads[1].start()
    threads[1].join(0.2)
    leave.set()
    for thread in threads:
        thread.join()
    after = os.fstat(2)
    assert (after.st_dev, after.st_ino) == (before.st_dev, before.st_ino)
