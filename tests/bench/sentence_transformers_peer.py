"""Embeds texts by sentence-transformers; runs in an environment of its own, without this project.

Reads one JSON object from standard input and writes one.
"""

import base64
import json
import sys
import time

import numpy as np
import sentence_transformers
from sentence_transformers import SentenceTransformer

# As the engine that it is compared with.
TOKENS_MAX = 512


def main() -> None:
    """Seconds of each pass over all texts, and the vectors of the last one."""
    asked = json.load(sys.stdin)
    model = SentenceTransformer(asked["folder"], device="cpu")
    model.max_seq_length = TOKENS_MAX
    model.encode(asked["texts"][:32])
    wall_s = []
    for _ in range(asked["repetitions"]):
        started = time.perf_counter()
        vectors = model.encode(asked["texts"], normalize_embeddings=True)
        wall_s.append(time.perf_counter() - started)
    packed = base64.b64encode(np.asarray(vectors, "<f4").tobytes()).decode()
    answer = {"wall_s": wall_s, "vectors": packed, "version": sentence_transformers.__version__}
    json.dump(answer, sys.stdout)


main()
