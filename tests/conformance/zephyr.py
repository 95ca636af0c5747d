"""Replays transcripts of real Zephyr servers against servers of ours: `python -m tests.conformance.zephyr FILE...`.

Each scenario gets a fresh server, set up like the recorded one and reached by the recorded transport. Not replayed, and
counted with the reason: transports that are not there yet, what the transcript marks as not replayable or
dependent on timing (what depends on it on a raw line is how the recorded server's driver cut the bytes, and ours reads
them as they come: that is replayed), and MCUboot's own serial recovery server. A case whose answer is a quirk of
Zephyr's is sent, and any answer is right. Ends with `N passed, N failed, N skipped`; exit status 0 only without
failures.
"""

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.zephyr_cases import Case, Difference, differences, load
from tests.conformance.zephyr_rules import Rule
from tests.conformance.zephyr_rules import load as load_rules
from tests.conformance.zephyr_servers import ANSWER_S, FRAMINGS, SERVERS, SILENCE_S, Line, reachable, running

RULES = Path(__file__).with_name("zephyr_rules.toml")
GROUP_NAMES = {0: "os", 1: "image", 2: "stat", 3: "settings", 8: "fs", 9: "shell", 10: "enum", 63: "zephyr basic"}
TRANSPORTS = {"udp", *FRAMINGS}
KINDS = {"frame", "wire", "sleep", "burst"}
PARALLEL = 3
"""Servers at once; most of the time is spent waiting."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a case."""

    case: Case
    status: str
    """`passed`, `failed` or `skipped`."""
    reason: str = ""


class Replay:
    """One run of cases against one server.

    Args:
        line: The line to the server.
        rules: What may differ.
    """

    def __init__(self, line: Line, rules: list[Rule]) -> None:
        self._line = line
        self._rules = rules
        self._behind: set[str] = set()
        self._recovery = False

    def step(self, case: Case) -> Outcome:
        """Replay one case."""
        if reason := unfit(case):
            return Outcome(case, "skipped", reason)
        if case.kind == "sleep":
            time.sleep(case.fields["seconds"])
            return Outcome(case, "passed")
        if self._recovery:
            self._recovery = not _resets(case)
            return Outcome(case, "skipped", "answered by MCUboot's serial recovery, which is another server")
        return self._judge(case, self._exchange(case))

    def _exchange(self, case: Case) -> list[bytes]:
        """Send a case's request; return what comes back, a late answer to the case before included."""
        frames = [late] if (late := self._line.receive(0)) else []
        wanted = len(case.answers)
        match case.kind:
            case "wire":
                for part in case.fields["wire_request"]:
                    self._line.write(bytes.fromhex(part))
            case "burst":
                wanted = len(case.fields["burst"])
                for frame in case.fields["burst"]:
                    self._line.send(bytes.fromhex(frame))
            case _:
                self._line.send(case.request)
        while len(frames) < max(wanted, 1):
            if (frame := self._line.receive(ANSWER_S if wanted else SILENCE_S)) is None:
                break
            frames.append(frame)
        return frames

    def _judge(self, case: Case, frames: list[bytes]) -> Outcome:
        found = differences(case, frames)
        if _erases(case):
            self._behind.add("erase")
        if _resets(case):
            self._behind.add("reset")
            self._recovery = "serial_recovery" in case.server and case.body.get("boot_mode") == 1
        if case.fields.get("oracle_quirk"):
            self._behind.add("quirk")
            return Outcome(case, "passed", "a quirk of Zephyr's, not compared")
        rules = [self._rule(case, each) for each in found]
        wrong = [each for each, rule in zip(found, rules, strict=True) if rule is None]
        if not found and case.group == 1 and case.command == 1:
            self._behind.discard("quirk")  # what the quirk did to the upload is over
        if not case.answers:
            self._behind.add("silence")
        elif not found:
            self._behind.discard("silence")
        if wrong:
            return Outcome(case, "failed", "; ".join(map(str, wrong)))
        return Outcome(case, "passed", "; ".join(sorted({rule.reason for rule in rules if rule})))

    def _rule(self, case: Case, difference: Difference) -> Rule | None:
        behind = frozenset(self._behind)
        return next((rule for rule in self._rules if rule.allows(case, difference, behind)), None)


def unfit(case: Case) -> str:
    """Say why a case is not replayed; empty: it is."""
    if case.transport not in {None, *TRANSPORTS}:
        return f"transport {case.transport} not built yet"
    if case.server not in SERVERS:
        return f"server {case.server} is not in the table"
    if case.transport not in {None, SERVERS[case.server].transport}:
        return f"transport {case.transport} is not that server's"
    if case.kind not in KINDS:
        return f"kind {case.kind} is not known"
    if case.fields.get("replayable") is False:
        return "recorded for reading"
    if case.fields.get("timing_dependent") and case.kind != "burst" and case.transport != "serial_raw":
        return "depends on timing"
    return ""


def _resets(case: Case) -> bool:
    return (case.group, case.command, case.op) == (0, 5, 2)


def _erases(case: Case) -> bool:
    return (case.group, case.command, case.op) == (63, 0, 2)


def replay(run: list[Case], rules: list[Rule]) -> list[Outcome]:
    """Replay the cases of one scenario against a fresh server; start none if nothing is to be replayed."""
    if all(unfit(case) or case.kind == "sleep" for case in run):
        return [Outcome(case, "skipped", unfit(case) or "nothing to wait for") for case in run]
    setup = SERVERS[run[0].server]
    if not reachable(setup):
        return [Outcome(case, "skipped", f"this machine has no {setup.host}") for case in run]
    done: list[Outcome] = []
    try:
        with tempfile.TemporaryDirectory(prefix="zephyr-") as name, running(setup, Path(name)) as line:
            player = Replay(line, rules)
            done.extend(player.step(case) for case in run)
    except Exception as exc:  # the server's fault or the transcript's: it costs this run, not the others
        done += [Outcome(case, "failed", f"not replayed: {exc!r}") for case in run[len(done) :]]
    return done


def report(outcomes: list[Outcome]) -> Iterator[str]:
    """Yield the lines of the report, the sum last."""
    yield from (
        f"FAILED {each.case.name} ({each.case.server}): {each.reason}" for each in outcomes if _is(each, "failed")
    )
    groups = sorted({_group(each.case) for each in outcomes})
    for group in groups:
        yield f"{group}: {_sum(each for each in outcomes if _group(each.case) == group)}"
    for status, text in (("passed", "passed though different"), ("skipped", "skipped")):
        reasons = Counter(each.reason for each in outcomes if _is(each, status) and each.reason)
        yield from (f"{text}, {count}: {reason}" for reason, count in reasons.most_common())
    yield _sum(outcomes)


def _is(outcome: Outcome, status: str) -> bool:
    return outcome.status == status


def _group(case: Case) -> str:
    if case.group is None:
        return "without a group"
    return f"group {case.group} {GROUP_NAMES.get(case.group, '(unknown)')}"


def _sum(outcomes: Iterable[Outcome]) -> str:
    counts = Counter(outcome.status for outcome in outcomes)
    return ", ".join(f"{counts[status]} {status}" for status in ("passed", "failed", "skipped"))


def main(names: list[str]) -> int:
    """Replay files; return the exit status."""
    if not names:
        print("usage: python -m tests.conformance.zephyr FILE...")
        return 2
    rules = load_rules(RULES)
    try:
        runs = [run for name in names for run in load(Path(name))]
    except (OSError, ValueError, LookupError, TypeError) as exc:
        print(f"cannot be read: {exc!r}")
        return 2
    with ThreadPoolExecutor(PARALLEL) as pool:
        done = pool.map(lambda run: replay(run, rules), runs)
        outcomes = [outcome for each in done for outcome in each]
    for line in report(outcomes):
        print(line)
    return 1 if any(_is(each, "failed") for each in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
