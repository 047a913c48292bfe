"""Whose turn it is: some requests per pass of the loop, in their order."""

import asyncio

from ingest.fair_queue import BYTES_PER_PASS, Turns


async def test_few_are_let_through_at_once() -> None:
    """Nobody waits while there is room."""
    turns = Turns()
    steps = turns.take(BYTES_PER_PASS // 2)
    try:
        steps.send(None)
    except StopIteration:
        return
    raise AssertionError("it waited")


async def test_many_take_turns_in_order_and_others_get_in_between() -> None:
    """What one of them set going runs before the last of them is worked on."""
    turns, seen = Turns(), []

    async def request(number: int) -> None:
        await turns.take(BYTES_PER_PASS)
        seen.append(f"request {number}")
        asyncio.get_running_loop().call_soon(seen.append, f"sent {number}")

    await asyncio.gather(*[request(number) for number in range(4)])
    await asyncio.sleep(0)
    assert [one for one in seen if one.startswith("request")] == [f"request {n}" for n in range(4)]
    assert seen.index("sent 0") < seen.index("request 2")


async def test_whoever_goes_away_holds_nobody_up() -> None:
    """Those behind a cancelled request get their turn, and the line is open again afterwards."""
    turns = Turns()
    tasks = [asyncio.create_task(turns.take(BYTES_PER_PASS)) for _ in range(5)]
    await asyncio.sleep(0)
    tasks[2].cancel()
    async with asyncio.timeout(5):
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in results].count(asyncio.CancelledError) == 1
    async with asyncio.timeout(5):
        await turns.take(1)
