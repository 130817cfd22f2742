"""A group of uploads that are cut when they are accepted holds the event loop for no long time."""

import asyncio
import gc
import time

from ingest.cutting import SMALL_TEXT_BYTES, cut_small_text
from services.ingest.tests.conftest import CHUNKS, Rig

UPLOADS = 32
# Processor time of the loop's own thread, in times of cutting one text: a third of the group. So a
# busy machine makes no difference.
GAP_MAX = UPLOADS / 3


async def test_a_group_of_small_texts_does_not_hold_the_loop(quick: Rig):
    sentence = b"The quick brown fox jumps over it. "
    content = sentence * (SMALL_TEXT_BYTES // len(sentence))
    gaps = [0.0]

    async def tick() -> None:
        while True:
            started = time.thread_time()
            await asyncio.sleep(0.001)
            gaps.append(time.thread_time() - started)

    gc.collect()
    gc.freeze()
    ticking = asyncio.create_task(tick())
    try:
        await asyncio.gather(
            *(
                quick.upload(content, name=f"collections/c/documents/{number}")
                for number in range(UPLOADS)
            )
        )
    finally:
        ticking.cancel()
        gc.unfreeze()
    assert max(gaps) < GAP_MAX * cutting_s(content)


def cutting_s(content: bytes) -> float:
    """Processor time of cutting one text, as it is on this machine at the moment."""
    taken = []
    for _ in range(9):
        started = time.thread_time()
        assert cut_small_text(content, media_type="", file_name="", settings=CHUNKS)
        taken.append(time.thread_time() - started)
    return sorted(taken)[len(taken) // 2]
