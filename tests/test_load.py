"""The load test for a few seconds: what does not depend on the machine's speed."""

import asyncio
from pathlib import Path

import pytest

from tests.client import READ
from tests.load import PEERS, WINDOW, Command, Found, fault, judge, request, run


@pytest.mark.slow
def test_a_few_seconds_of_load_keep_order_and_bounds(tmp_path: Path) -> None:
    found = asyncio.run(run(tmp_path, 3))
    assert found.wrong == []
    assert found.told["requests"] >= PEERS * WINDOW
    assert found.told["queue_most"] <= found.told["queue_size"]
    assert found.told["burst_dropped"] > 0


def test_answers_out_of_order_and_errors_are_found() -> None:
    command: Command = (READ, 0, 6, {})
    answer = request(3, command)
    assert fault(3, command, answer) == []
    assert fault(4, command, answer) != []
    assert fault(3, (READ, 0, 0, {}), answer) != []
    refused = (READ, 0, 6, {"rc": 8})
    assert fault(3, command, request(3, refused)) != []


def test_a_queue_beyond_its_size_and_a_slow_peer_without_back_pressure_are_found() -> None:
    found = Found([0.001] * 3, [0.002] * 3, slow=5000, slow_most=5000)
    judge(found, {"most": 65, "size": 64})
    assert len(found.wrong) == 2
