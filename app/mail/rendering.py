"""The texts of mails from templates, each as plain text and as HTML, which escapes whatever people wrote."""

from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape


class Templates:
    """The templates of a package: `NAME.txt` and `NAME.html` in its folder `templates`, over this package's layout."""

    def __init__(self, package: str) -> None:
        self._environment = Environment(
            loader=ChoiceLoader([PackageLoader(package), PackageLoader(__package__ or "")]),
            autoescape=select_autoescape(["html"]),
            # They are part of the program: not looked at again with every mail.
            auto_reload=False,
            # A misspelt name fails here and not as a gap in somebody's mail.
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )

    def render(self, name: str, **values: Any) -> dict[str, str]:
        """The mail's `text` and `html`."""
        return {
            form: self._environment.get_template(f"{name}.{ending}").render(values)
            for form, ending in (("text", "txt"), ("html", "html"))
        }
