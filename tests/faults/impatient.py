"""The service, sooner at the end of its patience: a program to start in place of `uvicorn`, with the same arguments."""

import runpy

from app.platform import health, websocket
from app.realtime import feed

MAX_LAG_S = 3.0

if __name__ == "__main__":
    health.MAX_LAG_S = MAX_LAG_S
    feed.STALL_S = 2.0
    websocket.CLOSE_GRACE_S = 2.0
    runpy.run_module("uvicorn", run_name="__main__", alter_sys=True)
