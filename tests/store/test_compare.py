"""What differs between two slots."""

from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.store.compare import Match, Run, compare, parts_in
from smp_dfu_host.store.survey import Part, Segment


def test_runs_of_sectors_that_compare_alike() -> None:
    a = b"aaaabbbbccccdddd"
    b = b"aaaabxbbyyyydddd"
    assert compare(a, b, (4,)) == (
        Run(Match.SAME, 0, 4, 0, 1),
        Run(Match.DIFFERS, 4, 8, 5, 2),
        Run(Match.SAME, 12, 4, 0, 1),
    )


def test_what_only_one_has() -> None:
    assert compare(b"aaaab", b"aaaa", (4,)) == (Run(Match.SAME, 0, 4, 0, 1), Run(Match.ONLY_A, 4, 1, 1, 1))
    assert compare(b"aa", b"aaaabbb", (4,)) == (Run(Match.SAME, 0, 2, 0, 1), Run(Match.ONLY_B, 2, 5, 5, 2))
    assert compare(b"", b"", (4,)) == ()


def test_mixed_sectors_and_the_last_repeats() -> None:
    runs = compare(b"abcdefgh", b"aXcdefgX", (1, 2, 1))
    assert [(run.match, run.offset, run.size) for run in runs] == [
        (Match.SAME, 0, 1),
        (Match.DIFFERS, 1, 2),
        (Match.SAME, 3, 4),
        (Match.DIFFERS, 7, 1),
    ]


@given(st.binary(max_size=60), st.binary(max_size=60), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_runs_cover_everything_and_count_the_bytes(a: bytes, b: bytes, sectors: list[int]) -> None:
    """The runs lie end to end, and their bytes are those that differ."""
    runs = compare(a, b, sectors)
    assert [run.offset for run in runs] == [0, *(run.end for run in runs)][: len(runs)]
    assert sum(run.size for run in runs) == max(len(a), len(b))
    wrong = sum(x != y for x, y in zip(a, b, strict=False)) + abs(len(a) - len(b))
    assert sum(run.bytes for run in runs) == wrong
    assert all((run.match is Match.SAME) == (run.bytes == 0) for run in runs)


def test_parts_in_a_stretch_come_once_and_in_order() -> None:
    segments = (
        Segment(Part.HEADER, 0, 4),
        Segment(Part.FREE, 4, 4),
        Segment(Part.DATA, 8, 4),
        Segment(Part.FREE, 12, 4),
    )
    assert parts_in(segments, 2, 14) == (Part.HEADER, Part.FREE, Part.DATA)
    assert parts_in(segments, 4, 4) == (Part.FREE,)
