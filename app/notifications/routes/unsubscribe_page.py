"""The page that the last link of a mail opens: one button. Opening it changes nothing, since programs open links."""

from pathlib import Path

from app.platform.pages import page_router

router = page_router("unsubscribe", Path(__file__).parents[1] / "static")
