"""Self-contained HTML pages: a style, figures, and one template per kind of page.

Pages are read by people who did not make them, perhaps by mail: a page loads nothing, runs nothing (its
Content-Security-Policy forbids both), and treats every name and identifier in the data as hostile text.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

from gzoo.errors import MissingExtraError
from gzoo.reports.figures import palette_css

try:
    import jinja2
    from markupsafe import Markup as Markup
except ImportError as error:
    raise MissingExtraError(
        f"{error.name} is not installed.", "The `report` extra.", "Type: pip install 'gzoo[report]'"
    ) from error


def render(template: str, *, title: str, **values: object) -> bytes:
    """The page as the bytes of an HTML file; the same values give the same bytes.

    Args:
        template: Name of a template in this folder, which extends `base.html.jinja`: "score".
        title: Of the page, and its heading.
        values: What the template shows. Texts are escaped, unless they are `Markup`.
    """
    palette = Markup(palette_css())  # made from constants
    page = _environment().get_template(f"{template}.html.jinja").render(title=title, palette=palette, **values)
    # a name that is no valid text (a lone surrogate from a file name) becomes a reference, not an error
    return page.encode("utf-8", "xmlcharrefreplace")


def fragment(template: str, **values: object) -> Markup:
    """Part of a page, for a template that shows it as it is.

    Args:
        template: Name of a template in this folder that stands for itself: "calibration".
        values: What it shows, escaped as those of a page.
    """
    return Markup(_environment().get_template(f"{template}.html.jinja").render(**values))


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(_source),
    )
    environment.filters["csp_hash"] = _csp_hash
    return environment


def _source(name: str) -> str:
    return resources.files("gzoo.reports").joinpath(name).read_text("utf-8")


def _csp_hash(content: str) -> str:
    """The name by which a Content-Security-Policy allows one inline style sheet and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode("ascii")
