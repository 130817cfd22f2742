"""The codes of the embedded engine for dense vectors, and how a search uses them."""

from typing import Final

import qdrant_edge as edge

from query.retrieval.vector_store import Quantization

# Codes of narrow vectors are too coarse.
CODED_DIMENSIONS_MIN: Final = 64
# Not the engine's scalar codes of 8 bits: it makes them only in an optimisation, which blocks.
CODE_BITS: Final = {
    Quantization.TURBO4: edge.TurboQuantBitSize.Bits4,
    Quantization.TURBO2: edge.TurboQuantBitSize.Bits2,
}
# A scan reads the codes, which are stored when points are written. Then it scores twice as many
# points as requested by their vectors. Without codes it reads the vectors.
SCAN: Final = edge.SearchParams(
    quantization=edge.QuantizationSearchParams(rescore=True, oversampling=2.0)
)


def make_codes(
    quantization: Quantization, dimensions: int
) -> edge.TurboQuantQuantizationConfig | None:
    """The engine's settings for a new store; None without codes."""
    if quantization not in CODE_BITS or dimensions < CODED_DIMENSIONS_MIN:
        return None
    return edge.TurboQuantQuantizationConfig(bits=CODE_BITS[quantization])
