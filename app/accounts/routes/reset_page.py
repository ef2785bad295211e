"""The page that the link of a mail opens: a form for the new password."""

from pathlib import Path

from app.platform.pages import page_router

router = page_router("reset-password", Path(__file__).parents[1] / "static")
