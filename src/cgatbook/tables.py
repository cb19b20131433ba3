"""Summaries that stand in for tables which are not here."""

from pathlib import Path

from cgatbook.notebooks import effective_values, read_notebooks, read_profile
from cgatlib import CgatError
from cgatlib.crystals.summary import summarise
from cgatlib.runs.plan import Plan


def summarise_tables(root: Path, profile: str, data: Path) -> list[Path]:
    """Write the summaries of the tables of a profile's plan beside the stored runs, and return their files.

    Args:
        root: folder of the book. profile: one whose pages name a plan. data: folder of its tables.

    Raises:
        CgatError: the profile is unknown or names no plan, or a table cannot be imported or is another.
    """
    values = effective_values(read_notebooks(root), read_profile(root, profile), {}).values()
    page = next((v for v in values if v.get("demonstration")), None)
    if page is None:
        raise CgatError(f"profile {profile} names no plan that summaries of its tables could go with")
    plan = Plan.read(root / page["demonstration"]).open(data, root / ".cgatlib" / "tables")
    found = summarise(plan.sources, next(iter(plan.sources)))
    return [table.write(root / page["stored"]) for table in found.values()]
