"""What goes on in threads while a test blocks."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def in_threads(work: Callable[[threading.Event], None], number: int = 1) -> Iterator[None]:
    """Runs ``work`` during the block; it must return soon after its event is set."""
    over = threading.Event()
    threads = [threading.Thread(target=work, args=(over,), daemon=True) for _ in range(number)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
