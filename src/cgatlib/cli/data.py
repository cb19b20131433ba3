"""``cgatlib data``: crystals in, from files and from public collections, and what a table holds."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cgatlib import CgatError
from cgatlib.cli.options import PATH

if TYPE_CHECKING:
    from cgatlib.crystals.importing import ImportReport

EXIT_BROKEN_SOURCE = 3


def _labels(context: click.Context, option: click.Parameter, texts: Iterable[str]) -> dict[str, str]:
    """Read ``ours=theirs`` and ``ours``."""
    labels: dict[str, str] = {}
    for ours, _, theirs in (text.partition("=") for text in texts):
        if ours in labels:
            raise CgatError(f"the label {ours!r} is given twice")
        labels[ours] = theirs
    return labels


def _file_range(context: click.Context, option: click.Parameter, text: str | None) -> range | None:
    """Read ``0:3`` and ``0``."""
    if text is None:
        return None
    first, colon, last = text.partition(":")
    if not first.isdigit() or (colon and not last.isdigit()):
        raise CgatError(f"--files {text!r} is neither a number nor FROM:TO")
    files = range(int(first), int(last) if colon else int(first) + 1)
    if not files:
        raise CgatError(f"--files {text!r} names no file; TO is excluded")
    return files


@click.group()
def data() -> None:
    """Read crystals from files, fetch public ones, describe a table."""


@data.command("import")
@click.argument("sources", nargs=-1, required=True, type=PATH)
@click.option("--out", required=True, type=PATH, help="Table to write (parquet).")
@click.option(
    "--format",
    metavar="NAME",
    help="alexandria, lemat, jarvis, json, jsonl, csv, folder or parquet; told from the source if absent.",
)
@click.option(
    "--label",
    "labels",
    multiple=True,
    callback=_labels,
    metavar="OURS[=THEIRS]",
    help="Label to take, and the source's name of it; repeat for more.",
)
@click.option("--functional", help="PBE, PBEsol, SCAN, r2SCAN, HSE, ...; needed if the source does not state it.")
@click.option("--rejects", type=PATH, help="Rejects file to write; OUT with .rejects.csv if absent.")
@click.option("--exclude-noble-gases", is_flag=True, help="Reject crystals with He, Ne, Ar, Kr, Xe or Rn.")
@click.option("--neighbours", default=24, show_default=True, help="Neighbours each atom must have within 18 Å.")
@click.option("--allow-missing", is_flag=True, help="Keep rows that lack some, not all, of the labels.")
@click.option("--partial", is_flag=True, help="Write the table even if a source breaks off.")
@click.option("--id-column", help="Column with the id, if its name is not a usual one.")
@click.option("--structure-column", help="Column with the structure, if its name is not a usual one.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def import_(
    sources: tuple[Path, ...], labels: dict[str, str], exclude_noble_gases: bool, as_json: bool, **request: Any
) -> None:
    """Read SOURCES into one table; what is not taken goes into the rejects file with its reason.

    \b
    Examples:
      cgatlib data import alexandria_*.json.bz2 --functional PBE --out pbe.parquet
      cgatlib data import mp20/train.csv --functional PBE --out mp20.parquet \\
          --label e_form=formation_energy_per_atom
      cgatlib data import my_cifs/ --functional HSE --label band_gap=1 --out gaps.parquet

    Labels are properties such as e_form (eV/atom), band_gap (eV) and volume_per_atom (Å³/atom); an unknown one is
    answered with all. The volume always comes along, from the lattice if the source has none. With --label, only the
    labels named are taken and a row that lacks one is rejected (--allow-missing keeps it). Without --label, the usual
    names of the format are taken; a row that has none of them is rejected, and so is an Alexandria entry without
    e_form or e_above_hull. Cells are left as they are, primitive or not.

    \b
    Exit codes:
      0  the table is written and every source was read to its end
      2  the request cannot be met (unknown option, column, functional, ...)
      3  a source is damaged or truncated, or no row could be taken; no table is written unless
         --partial is given; the rejects file says what happened
    """
    from tqdm import tqdm

    from cgatlib.crystals.importing import ImportRequest, import_crystals
    from cgatlib.crystals.labels import ReadOptions

    rows = {name: request.pop(name) for name in ("allow_missing", "id_column", "structure_column")}
    options = ReadOptions(labels, **rows)
    asked = ImportRequest(sources, options=options, noble_gases=not exclude_noble_gases, **request)
    report = import_crystals(asked, partial(tqdm, unit=" crystals", desc="importing", disable=None))
    click.echo(json.dumps(asdict(report), ensure_ascii=False) if as_json else _report_text(report))
    _exit_if_broken(report)


def _exit_if_broken(report: ImportReport) -> None:
    for failure in report.failures:
        click.echo(f"Error: {failure}", err=True)
    if report.out is None:
        why = "a source is damaged" if report.taken else "no row could be taken"
        click.echo(f"Error: no table was written, {why}; see {report.rejects}", err=True)
    if report.failures or report.out is None:
        click.get_current_context().exit(EXIT_BROKEN_SOURCE)


def _report_text(report: ImportReport) -> str:
    rate = report.read / report.seconds if report.seconds else 0.0
    lines = [
        f"{report.read} rows read from {report.sources} source(s) = {report.taken} taken + {report.rejected} rejected",
        *(f"  {n:>8}  {reason}" for reason, n in report.reasons.items()),
        f"functional {report.functional}; labels: " + ", ".join(f"{k} {n}" for k, n in report.labels.items()),
        f"{report.seconds:.1f} s, {rate:.0f} crystals/s, peak memory {report.peak_memory_mb:.0f} MB",
        f"rejects: {report.rejects}",
    ]
    if per_cell := report.reasons.get("label looks per cell", 0):
        lines.append(f"warning: {per_cell} labels look like values per cell; check the unit of the others as well")
    return "\n".join([*lines, *([f"table: {report.out}"] if report.out else [])])


@data.command("fetch")
@click.argument("collection", type=click.Choice(["alexandria", "lemat-bulk", "matpes"]))
@click.option(
    "--functional", required=True, type=click.Choice(["pbe", "pbesol", "scan", "r2scan"], case_sensitive=False)
)
@click.option(
    "--files",
    callback=_file_range,
    metavar="FROM:TO",
    help="File numbers, TO excluded (0:3 is 0, 1, 2), or one number; all files if absent, where their number is fixed.",
)
@click.option("--to", required=True, type=PATH, help="Folder for the files and their checksums.json.")
@click.option("--base-url", help="Another address of the collection, e.g. a mirror.")
@click.option("--release", help="Another release, where addresses name one.")
@click.option("--replace-changed", is_flag=True, help="Fetch files again that have changed on the server.")
@click.option("--json", "as_json", is_flag=True, help="Print what was fetched as JSON.")
def fetch_(
    collection: str, functional: str, files: range | None, to: Path, replace_changed: bool, as_json: bool, **where: Any
) -> None:
    """Download numbered files of COLLECTION; run again to go on after an interruption.

    The licence of the data is told on standard error. LeMat-Bulk and MatPES were added by their documentation, and
    not tried on their servers.

    \b
    Examples:
      cgatlib data fetch alexandria --functional scan --files 0:3 --to downloads/scan
      cgatlib data fetch lemat-bulk --functional pbesol --to downloads/lemat
      cgatlib data fetch matpes --functional r2scan --to downloads/matpes
    """
    from cgatlib.crystals.download import COLLECTIONS, fetch

    found = COLLECTIONS[collection]
    urls = found.urls(functional, files, **where)
    click.echo(f"{collection}: licence {found.licence}; {found.about}", err=True)
    done = []
    for url in urls:
        done.append(got := fetch(url, to, _bar, replace_changed))
        if not as_json:
            click.echo(f"{got.how:>9}  {got.bytes:>12} bytes  sha256 {got.sha256[:16]}...  {got.file}")
    if as_json:
        click.echo(json.dumps([asdict(got) for got in done], default=str))


def _bar(name: str, start: int, total: int | None) -> Any:
    from tqdm import tqdm

    return tqdm(desc=name, initial=start, total=total, unit="B", unit_scale=True, unit_divisor=1024, disable=None)


@data.command("describe")
@click.argument("table", type=PATH)
@click.option("--functional", help="Needed if the table does not state it.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def describe_(table: Path, functional: str | None, as_json: bool) -> None:
    """Print counts, functional, label statistics, element counts and duplicates of TABLE.

    \b
    Example:
      cgatlib data describe pbe.parquet
    """
    from cgatlib.crystals.summary import describe
    from cgatlib.crystals.table import read_table

    content = describe(read_table(table, functional))
    click.echo(json.dumps(content, ensure_ascii=False) if as_json else _description_text(content))


def _description_text(content: dict[str, Any]) -> str:
    atoms, duplicates = content["atoms"], content["duplicates"]
    columns = ("mean", "std", "min", "median", "max")
    elements = [f"{symbol} {n}" for symbol, n in content["elements"].items()]
    lines = [
        f"{content['crystals']} crystals of {content['formulas']} formulas, functional {content['functional']}",
        f"source {content['source'] or 'not stated'}, fingerprint {content['fingerprint']}",
        *([f"atoms per cell: {atoms['min']} to {atoms['max']}, mean {atoms['mean']:.2f}"] if atoms else []),
        f"{'label':<16} {'unit':<9} {'count':>8} {'missing':>8} {' '.join(f'{head:>10}' for head in columns)}",
        *(
            f"{name:<16} {s['unit']:<9} {s['count']:>8} {s['missing']:>8} {' '.join(f'{s[k]:>10.4f}' for k in columns)}"
            for name, s in content["labels"].items()
        ),
        f"crystals per element ({len(elements)} elements):",
        *("  " + ", ".join(elements[i : i + 12]) for i in range(0, len(elements), 12)),
        f"duplicates: {duplicates['same_id']} ids more than once, {duplicates['alike']} rows like another "
        "(same formula and atoms, volume within 0.1 %)",
    ]
    return "\n".join(lines)
