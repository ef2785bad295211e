"""What importing the application does to its process."""

import gc

from app.main import app


def test_the_garbage_collector_leaves_alone_what_stays() -> None:
    assert app.routes
    assert gc.get_freeze_count() > 50_000
    assert gc.get_threshold()[0] == 10_000
