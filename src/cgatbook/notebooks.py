"""The book's notebooks, their typed parameters, and the profiles that set them.

A notebook is a MyST markdown file with exactly one cell tagged ``parameters``; each line of that cell is
``name: type = default  # meaning``. Values come, in rising order of precedence, from that cell, from the
profile's ``common`` part, from the profile's part for the notebook, and from the command line. What no
notebook knows is refused.
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

    def accept(self, value: Any, where: str) -> Any:
        """Return `value` as this parameter takes it (an int becomes a float where a float is expected).

        Raises:
            CgatError: the type differs from the default's, or an element's type from the default's elements.
        """
        if not _same_type(value, self.default):
            expected = f"a {self.kind} such as {self.default!r}"
            raise CgatError(f"parameter {self.name} of {where} takes {expected}, not {value!r}")
        return float(value) if isinstance(self.default, float) else value


@dataclass(frozen=True)
class Notebook:
    """A notebook's source (an nbformat node, not executed) and its parameters by name."""

    name: str
    path: Path
    node: Any
    parameters: dict[str, Parameter]

    def values(self, *layers: Mapping[str, Any]) -> Values:
        """Effective value of every parameter: defaults overridden by `layers`, the last one wins.

        Raises:
            CgatError: a layer names a parameter this notebook does not have, or gives it another type.
        """
        result = {name: parameter.default for name, parameter in self.parameters.items()}
        for layer in layers:
            for name, value in layer.items():
                if name not in self.parameters:
                    known = ", ".join(self.parameters)
                    raise CgatError(f"notebook {self.name} has no parameter {name!r}; it has: {known}")
                result[name] = self.parameters[name].accept(value, f"notebook {self.name}")
        return result


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


def _same_type(value: Any, default: Any) -> bool:
    if isinstance(default, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if type(value) is not type(default):
        return False
    if isinstance(default, list) and default:
        return all(any(_same_type(item, known) for known in default) for item in value)
    return True


def find_root(start: Path) -> Path:
    """The nearest folder upwards from `start` that holds a book.

    Raises:
        CgatError: there is none.
    """
    for folder in (start, *start.parents):
        if (folder / PROFILES).is_file():
            return folder
    raise CgatError(f"no book ({PROFILES}) in {start} or above it; name its folder with --root")


def pages(root: Path) -> list[Path]:
    """Sources of the book's pages in the order of its table of contents.

    Raises:
        CgatError: there is no table of contents, or it lists a file that does not exist.
    """
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
        for value in entry.values():
            yield from _files(value)
    elif isinstance(entry, list):
        for item in entry:
            yield from _files(item)


def read_notebooks(root: Path) -> dict[str, Notebook]:
    """The book's notebooks by name, in the order of the table of contents; other pages are left out."""
    import jupytext

    found = {}
    for path in pages(root):
        node = jupytext.read(path)
        if "kernelspec" in node.metadata:
            found[path.stem] = Notebook(path.stem, path, node, _parameters(path.name, node))
    return found


def _parameters(name: str, node: Any) -> dict[str, Parameter]:
    """Parameters as papermill sees them, with the defaults as values instead of source text."""
    from papermill import inspect_notebook

    cells = [cell for cell in node.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise CgatError(f"{name} has {len(cells)} cells tagged 'parameters'; it needs exactly one")
    found = {}
    for entry in inspect_notebook(node).values():
        try:
            default = ast.literal_eval(entry["default"])
        except (ValueError, SyntaxError) as error:
            raise CgatError(f"{name}: the default of {entry['name']} is no plain value: {entry['default']}") from error
        found[entry["name"]] = Parameter(entry["name"], entry["inferred_type_name"], default, entry["help"])
    return found


def read_profile(root: Path, name: str) -> Profile:
    """Read one profile of ``book/parameters.yml``.

    Raises:
        CgatError: the file is missing or malformed, or the profile is unknown (the known ones are listed).
    """
    path = root / PROFILES
    try:
        known = yaml.safe_load(path.read_text())["profiles"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise CgatError(f"cannot read the profiles in {path}: {error!r}") from error
    if name not in known:
        raise CgatError(f"unknown profile {name!r}; known: {', '.join(known)}")
    try:
        return Profile(name=name, **known[name])
    except TypeError as error:
        raise CgatError(f"profile {name} in {path} is malformed: {error}") from error


def parse_overrides(texts: Iterable[str]) -> dict[str, Values]:
    """Parse ``NOTEBOOK.PARAMETER=VALUE`` (value as YAML) into values by notebook; ``common`` stands for all.

    Raises:
        CgatError: the text has another form, or the value is no YAML.
    """
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
    """The notebook called `name`, or the only one whose name starts with it.

    Raises:
        CgatError: none or several fit (the known ones are listed).
    """
    fits = [name] if name in notebooks else [known for known in notebooks if known.startswith(name)]
    if len(fits) != 1:
        problem = "unknown notebook" if not fits else "ambiguous notebook"
        raise CgatError(f"{problem} {name!r}; known: {', '.join(notebooks)}")
    return notebooks[fits[0]]


def effective_values(
    notebooks: Mapping[str, Notebook], profile: Profile, overrides: Mapping[str, Values]
) -> dict[str, Values]:
    """Value of every parameter of every notebook.

    Raises:
        CgatError: a notebook or parameter that does not exist, or a value of the wrong type.
    """
    layers: dict[str, list[Values]] = {name: [] for name in notebooks}
    for part in ({"common": profile.common, **profile.notebooks}, overrides):
        _check_common(notebooks, part.get("common", {}))
        for name, notebook in notebooks.items():
            common = part.get("common", {}).items()
            layers[name].append({key: value for key, value in common if key in notebook.parameters})
        for name, values in part.items():
            if name != "common":
                layers[find_notebook(notebooks, name).name].append(values)
    return {name: notebook.values(*layers[name]) for name, notebook in notebooks.items()}


def _check_common(notebooks: Mapping[str, Notebook], common: Mapping[str, Any]) -> None:
    known = dict.fromkeys(name for notebook in notebooks.values() for name in notebook.parameters)
    unknown = [name for name in common if name not in known]
    if unknown:
        raise CgatError(f"no notebook has a parameter {unknown[0]!r}; known: {', '.join(known)}")
