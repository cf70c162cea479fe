"""Self-contained HTML reports: one style, one set of parts (`gzoo.reports.parts`), one template per kind of page.

Pages are read by others than their authors, perhaps as an e-mail attachment: a page loads nothing, runs nothing (its
Content-Security-Policy forbids both), and every name and identifier in the data is untrusted text.
"""

from __future__ import annotations

import base64
import hashlib

from gzoo import files
from gzoo.errors import MissingExtraError
from gzoo.palette import figure_css, tokens_css

try:
    import jinja2
    from markupsafe import Markup as Markup
except ImportError as error:
    raise MissingExtraError(
        f"Package '{error.name}' is not installed.", "the extra 'report'.", "Run `pip install 'gzoo[report]'`."
    ) from error


def render(template: str, *, title: str, **values: object) -> bytes:
    """Return an HTML page; the same values give the same bytes.

    Args:
        template: Name of a template in this folder that extends `base.html.jinja`, such as "score".
        title: Title and heading of the page.
        values: Values for the template. Strings are escaped, unless they are `Markup`.
    """
    colours = Markup(tokens_css() + figure_css())
    page = fragment(template, title=title, generator=files.mark("report"), palette=colours, **values)
    # a name that is not valid Unicode (a lone surrogate from a file name) becomes a reference, not an error
    return page.encode("utf-8", "xmlcharrefreplace")


def fragment(template: str, **values: object) -> Markup:
    """Return a part of a page, which another template can insert.

    Args:
        template: Name of a template in this folder, such as "calibration".
        values: Values for the template. Strings are escaped, unless they are `Markup`.
    """
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.PackageLoader("gzoo.reports", ""),
    )
    environment.filters["csp_hash"] = _csp_hash
    return Markup(environment.get_template(f"{template}.html.jinja").render(**values))


def _csp_hash(content: str) -> str:
    """Return the source by which a Content-Security-Policy allows one inline style sheet and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode("ascii")
