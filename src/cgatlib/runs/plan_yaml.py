"""YAML that may come from somebody else: read in bounded time and memory, whatever stands in it."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from cgatlib import CgatError

LONGEST, MOST_VALUES = 200_000, 50_000
"""Bytes of a file; values in it, those that aliases repeat included. (Reading such a file takes two seconds.)"""


class _Loader(yaml.SafeLoader):
    """YAML of bounded size in which a name given twice is an error and 1e-3 is a number."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.values, self.sizes = 0, dict[int, int]()  # what was composed; of each node, what lies in it

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        before, alias = self.values, self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        self.values += self.sizes.get(id(node), MOST_VALUES) if alias else 1  # in itself it would be without an end
        if self.values > MOST_VALUES:
            raise CgatError(f"a plan holds at most {MOST_VALUES} values, those that aliases repeat included")
        self.sizes[id(node)] = self.values - before
        return node

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for name, times in names.items():
            if times > 1:
                raise CgatError(f"{name!r} stands twice in the settings that begin in line {node.start_mark.line + 1}")
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def load_yaml(path: Path) -> Any:
    """What the file says, in plain Python values.

    Raises:
        CgatError: it cannot be read, is not YAML, or beyond the bounds.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LONGEST + 1)
        if len(content) > LONGEST:
            raise CgatError(f"a plan has at most {LONGEST} bytes")
        return yaml.load(content.decode(), Loader=_Loader)  # noqa: S506  # a SafeLoader
    except CgatError as error:
        raise CgatError(f"{path}: {error}") from error
    except RecursionError as error:
        raise CgatError(f"{path} cannot be read as a plan: it is nested too deeply") from error
    except (OSError, yaml.YAMLError, ValueError, LookupError, AttributeError) as error:  # the last of impossible dates
        raise CgatError(f"{path} cannot be read as a plan: {' '.join(str(error).split())}") from error
