"""A Sphinx extension: a page can refer to the figures its code draws, ``{ref}`figure-budget` ``, by their number."""

import re
from typing import Any

_FIGURE = re.compile(r'<figure [^>]*id="(figure-[\w-]+)">.*?<figcaption><b>(Figure \d+)\.', re.S)


def setup(app: Any) -> dict[str, Any]:
    """What Sphinx calls."""
    app.connect("doctree-read", _register)
    return {"parallel_read_safe": True}


def _register(app: Any, page: Any) -> None:
    """Make every numbered figure of a page a label of Sphinx, with its number as the text of a link."""
    labels = app.env.get_domain("std").data["labels"]
    for node in page.findall(lambda node: node.tagname == "raw"):
        for target, number in _FIGURE.findall(node.astext()):
            labels[target] = (app.env.docname, target, number)
