"""The book's notebooks, their typed parameters, and the profiles that set them.

A notebook is a MyST markdown file with exactly one cell tagged ``parameters``; each line of that cell is
``name: type = default  # meaning``. Values come, in rising order of precedence, from that cell, from the profile's
``common`` part, from the profile's part for the notebook, and from the command line. What no notebook knows is refused.
"""

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cgatlib import CgatError

PROFILES = Path("book/parameters.yml")
Values = dict[str, Any]


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell; its default fixes the type."""

    name: str
    kind: str
    default: Any
    meaning: str


@dataclass(frozen=True)
class Notebook:
    """A notebook's source (an nbformat node, not executed) and its parameters by name."""

    name: str
    path: Path
    node: Any
    parameters: dict[str, Parameter]

    def values(self, *layers: Mapping[str, Any]) -> Values:
        """Value of every parameter: defaults overridden by `layers`, the last one wins; `CgatError` where none fits."""
        result = {name: parameter.default for name, parameter in self.parameters.items()}
        for name, value in [item for layer in layers for item in layer.items()]:
            if name not in self.parameters:
                raise CgatError(f"notebook {self.name} has no parameter {name!r}; it has: {', '.join(self.parameters)}")
            if not _same_type(value, (default := self.parameters[name].default)):
                expected = f"a {self.parameters[name].kind} such as {default!r}"
                raise CgatError(f"parameter {name} of notebook {self.name} takes {expected}, not {value!r}")
            result[name] = float(value) if isinstance(default, float) else value
        return result


def _same_type(value: Any, default: Any) -> bool:
    if isinstance(default, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(default, list) and isinstance(value, list) and default:
        return all(any(_same_type(item, known) for known in default) for item in value)
    return type(value) is type(default)


@dataclass(frozen=True)
class Profile:
    """A named set of parameter values for the whole book.

    A profile whose ``common`` part sets the parameter ``data`` does not use the embedded tables; with `needs_data`
    nothing can be shown unless their folder is given.
    """

    name: str
    about: str
    needs_data: bool = False
    common: Values = field(default_factory=dict)
    notebooks: dict[str, Values] = field(default_factory=dict)


def find_root(start: Path) -> Path:
    """The nearest folder upwards from `start` that holds a book; `CgatError` where there is none."""
    for folder in (start, *start.parents):
        if (folder / PROFILES).is_file():
            return folder
    raise CgatError(f"no book ({PROFILES}) in {start} or above it; name its folder with --root")


def pages(root: Path) -> list[Path]:
    """Sources of the book's pages in the order of its table of contents; `CgatError` where one does not exist."""
    toc = root / "_toc.yml"
    if not toc.is_file():
        raise CgatError(f"{root} holds no book: {toc.name} is missing")
    found = [root / f"{entry}.md" for entry in _files(yaml.safe_load(toc.read_text()))]
    for path in found:
        if not path.is_file():
            raise CgatError(f"{toc} lists {path.relative_to(root)}, which does not exist")
    return found


def _files(entry: Any) -> Iterable[str]:
    """File names of a Jupyter Book table of contents, depth first."""
    if isinstance(entry, dict):
        yield from (str(entry[key]) for key in ("root", "file") if key in entry)
    if isinstance(entry, dict | list):
        for part in entry.values() if isinstance(entry, dict) else entry:
            yield from _files(part)


def read_notebooks(root: Path) -> dict[str, Notebook]:
    """The book's notebooks by name, in the order of the table of contents; other pages are left out."""
    import jupytext

    nodes = {path: jupytext.read(path) for path in pages(root)}
    return {
        path.stem: Notebook(path.stem, path, node, _parameters(path.name, node))
        for path, node in nodes.items()
        if "kernelspec" in node.metadata
    }


def _parameters(name: str, node: Any) -> dict[str, Parameter]:
    """Parameters as papermill sees them, with the defaults as values instead of source text."""
    from papermill import inspect_notebook

    cells = sum("parameters" in cell.metadata.get("tags", []) for cell in node.cells)
    if cells != 1:
        raise CgatError(f"{name} has {cells} cells tagged 'parameters'; it needs exactly one")
    return {
        p["name"]: Parameter(p["name"], p["inferred_type_name"], ast.literal_eval(p["default"]), p["help"])
        for p in inspect_notebook(node).values()
    }


def read_profile(root: Path, name: str) -> Profile:
    """One profile of ``book/parameters.yml``; `CgatError` where it is malformed or unknown (the known are listed)."""
    path = root / PROFILES
    try:
        known = yaml.safe_load(path.read_text())["profiles"]
        if name in known:
            return Profile(name=name, **known[name])
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise CgatError(f"cannot read the profiles in {path}: {error!r}") from error
    raise CgatError(f"unknown profile {name!r}; known: {', '.join(known)}")


def parse_overrides(texts: Iterable[str]) -> dict[str, Values]:
    """``NOTEBOOK.PARAMETER=VALUE`` (value as YAML; ``common`` stands for all) by notebook, or a `CgatError`."""
    overrides: dict[str, Values] = {}
    for text in texts:
        target, equals, value = text.partition("=")
        notebook, dot, parameter = target.strip().partition(".")
        if not (equals and dot and notebook and parameter):
            raise CgatError(f"cannot read the override {text!r}; write NOTEBOOK.PARAMETER=VALUE")
        try:
            overrides.setdefault(notebook, {})[parameter] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise CgatError(f"the value of the override {text!r} is no YAML") from error
    return overrides


def find_notebook(notebooks: Mapping[str, Notebook], name: str) -> Notebook:
    """The notebook called `name`, or the only one whose name starts with it; `CgatError` where none or several do."""
    fits = [name] if name in notebooks else [known for known in notebooks if known.startswith(name)]
    if len(fits) != 1:
        problem = "unknown notebook" if not fits else "ambiguous notebook"
        raise CgatError(f"{problem} {name!r}; known: {', '.join(notebooks)}")
    return notebooks[fits[0]]


def effective_values(
    notebooks: Mapping[str, Notebook], profile: Profile, overrides: Mapping[str, Values]
) -> dict[str, Values]:
    """Value of every parameter of every notebook; `CgatError` for what does not exist or has the wrong type."""
    known = dict.fromkeys(name for notebook in notebooks.values() for name in notebook.parameters)
    layers: dict[str, list[Values]] = {name: [] for name in notebooks}
    for part in ({"common": profile.common, **profile.notebooks}, overrides):
        common = part.get("common", {})
        if unknown := [name for name in common if name not in known]:
            raise CgatError(f"no notebook has a parameter {unknown[0]!r}; known: {', '.join(known)}")
        for name, notebook in notebooks.items():
            layers[name].append({key: value for key, value in common.items() if key in notebook.parameters})
        for name, values in part.items():
            if name != "common":
                layers[find_notebook(notebooks, name).name].append(values)
    return {name: notebook.values(*layers[name]) for name, notebook in notebooks.items()}
