"""Demands that the tests cover at least 95 % of the branches of each layer that has no hardware or network behind it.

coverage run -m pytest && python -m tests.coverage_gate
"""

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import coverage

LAYERS = ("wire", "dispatch", "modules", "groups", "mcuboot", "store")
"""Packages of smp_dfu_host that are held to it."""

LIMIT = 95.0
"""Per cent of the branches."""


def main() -> int:
    """Print a table of the layers; return 1 if one is below the limit."""
    measured = summaries()
    missed = []
    for layer in LAYERS:
        files = [summary for name, summary in measured.items() if name.startswith(f"smp_dfu_host/{layer}/")]
        branches = share(files, "covered_branches", "num_branches")
        lines = share(files, "covered_lines", "num_statements")
        print(f"{layer:10} {branches:6.1f} % of branches, {lines:6.1f} % of lines")
        if branches < LIMIT:
            missed.append(layer)
    if missed:
        print(f"below {LIMIT:g} % of branches: {', '.join(missed)}")
    return 1 if missed else 0


def summaries() -> Mapping[str, Mapping[str, Any]]:
    """Return coverage's counts of each file."""
    data = coverage.Coverage()
    data.load()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "coverage.json"
        data.json_report(outfile=str(report))
        return {name: file["summary"] for name, file in json.loads(report.read_text())["files"].items()}


def share(files: list[Mapping[str, Any]], covered: str, of: str) -> float:
    """Return the per cent that is covered of some count; nothing to cover is all covered, no file at all is nothing."""
    total = sum(file[of] for file in files)
    if not files:
        return 0.0
    return 100.0 * sum(file[covered] for file in files) / total if total else 100.0


if __name__ == "__main__":
    sys.exit(main())
