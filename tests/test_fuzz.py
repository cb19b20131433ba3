"""Damaged files by the hundred: no traceback, no hang, bounded memory, rows that add up."""

import sys
from pathlib import Path

import pytest

from cgatlib import CgatError


@pytest.fixture
def harness(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    from fuzz import harness

    yield harness
    for name in [name for name in sys.modules if name.split(".")[0] == "fuzz"]:
        del sys.modules[name]


def by_length(data: bytes, folder: Path) -> str:
    match len(data):
        case 1:
            raise CgatError("refused")
        case 2:
            raise KeyError("a bug")
        case 3:
            return str(len(bytes(1 << 31)))
        case 4:
            while True:
                pass
    return "read" if not list(folder.iterdir()) else "the folder is not empty"


def test_every_kind_of_end_is_told(harness, monkeypatch):
    monkeypatch.setattr(harness, "mutate", lambda seed, random: seed)
    monkeypatch.setattr(harness, "CPU_SECONDS", 0.2)
    targets = [harness.Target(str(n), [b"x" * n], by_length) for n in range(5)]
    report = harness.fuzz(targets, cases=10, workers=2)
    assert [result.outcome.split(" at ")[0] for result in report.results] == 2 * [
        "read",
        "refused with a sentence",
        "KeyError",
        "MemoryError",
        "killed by SIGPROF",
    ]
    assert len(report.findings) == 6


@pytest.mark.slow
def test_a_minute_of_damaged_files(harness):
    from fuzz.crystal_files import crystal_targets
    from fuzz.settings import settings_targets

    report = harness.fuzz(crystal_targets() + settings_targets(), cases=4000, seed=1, workers=2, seconds=60)
    assert len(report.results) > 500
    assert not report.findings, report.text()


@pytest.mark.slow
def test_killed_commands_are_started_again(harness):
    """A share of `make kills`; the first commands are killed in any case."""
    from fuzz.kills import TOGETHER, run_kills

    report = run_kills(kills=24, seed=1, seconds=60, together=TOGETHER[:2])
    assert sum(report.ends.values()) > 2
    assert not report.findings, report.text()
