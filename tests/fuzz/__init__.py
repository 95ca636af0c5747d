"""Fuzzing: whatever bytes come, nothing but the documented errors, no hang, no growing memory.

    targets    what is fuzzed: `TARGETS` by name; a target takes bytes and raises only if there is a finding
    wire, messages, flash, files    the targets themselves, with the bytes that they start from
    guard      turns a hang and growing memory into findings, too
    engine     one target under atheris, in a process of its own; writes what it found
    __main__   `scripts/fuzz TARGET SECONDS`: runs engines, counts executions

The targets need no atheris: test_targets.py feeds them their seeds, what was found before, and hypothesis's bytes.
"""
