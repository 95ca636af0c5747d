"""Rules by which our boot loader may differ from the recorded one; they are in mcuboot_rules.toml.

    [[rule]]
    mode = "offset"                     a pattern, as of file names: modes as the recordings call them
    slot0 = { magic = "good" }          trailers of an image before the boot; cells that are not named may be anything
    slot1 = { magic = "good", copy_done = "set" }
    reason = "why ours is right"

Cells are magic, image_ok, copy_done (good, bad, unset; set), swap_info (none, test, perm, revert) and status (begun:
its first byte is written; unset). A rule covers boots alone, and only as long as ours does boot an image from there.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

MAX_RULES = 10
RULES = Path(__file__).with_suffix(".toml")

Cells = Mapping[str, str]
"""The cells of a trailer in words."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One state of flash from which ours goes on where the recorded one cannot."""

    mode: str
    slot0: Cells
    slot1: Cells
    reason: str

    def covers(self, mode: str, images: Sequence[tuple[Cells, Cells]]) -> bool:
        """Tell whether any image is in that state before a boot."""
        return fnmatchcase(mode, self.mode) and any(
            self.slot0.items() <= first.items() and self.slot1.items() <= second.items() for first, second in images
        )


def load(path: Path = RULES) -> list[Rule]:
    """Return the rules of a file.

    Raises:
        ValueError: If there are too many, or one has no reason.
    """
    rules = [Rule(**table) for table in tomllib.loads(path.read_text(encoding="utf-8")).get("rule", [])]
    if len(rules) > MAX_RULES:
        raise ValueError(f"{path}: {len(rules)} rules, limit is {MAX_RULES}")
    if any(not rule.reason for rule in rules):
        raise ValueError(f"{path}: a rule without a reason")
    return rules
