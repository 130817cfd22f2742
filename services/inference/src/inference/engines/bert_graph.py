"""The MiniLM-L6 encoder as an OpenVINO graph, built straight from the published weights.

It needs no torch, no ONNX file and no conversion step. The graph shares the memory of the weights:
copying them would take most of the time and twice the memory.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset13 as ops

Weights = Mapping[str, npt.NDArray[np.float32]]

LAYERS = 6
HEADS = 12
WIDTH = 384
MAX_TOKENS = 512
PAD_ID = 0

_LAYER_NORM_EPSILON = 1e-12
# Large enough to mask a token; with -3e38 some forms of this graph are wrong in bf16.
_MASKED = -1e4


def sentence_encoder(weights: Weights) -> ov.Model:
    """Graph from token ids, i32 [batch, length], to unit-length vectors, f32 [batch, 384].

    Length is at most `MAX_TOKENS`; rows are padded on the right with `PAD_ID`, which is masked.
    """
    ids = ops.parameter([-1, -1], np.int32, name="ids")
    kept = ops.convert(ops.not_equal(ids, _scalar(PAD_ID)), "f32")
    attention_mask = ops.unsqueeze(
        ops.multiply(ops.subtract(np.float32(1), kept), np.float32(_MASKED)), _axes(1, 2)
    )
    state = _embeddings(weights, ids)
    for layer in range(LAYERS):
        state = _layer(weights, f"encoder.layer.{layer}", state, attention_mask)
    return ov.Model([_pool(state, kept)], [ids], "all-MiniLM-L6-v2")


def _embeddings(weights: Weights, ids: ov.Node) -> ov.Node:
    length = ops.gather(ops.shape_of(ids, "i32"), _scalar(1), _scalar(0))
    positions = ops.range(_scalar(0), length, _scalar(1), "i32")
    words = ops.gather(_table(weights, "word"), ids, _scalar(0))
    places = ops.gather(_table(weights, "position"), positions, _scalar(0))
    segment = weights["embeddings.token_type_embeddings.weight"][0]
    return _layer_norm(weights, "embeddings", ops.add(ops.add(words, places), segment))


def _layer(weights: Weights, name: str, state: ov.Node, attention_mask: ov.Node) -> ov.Node:
    query, key, value = (
        _heads(_linear(weights, f"{name}.attention.self.{part}", state))
        for part in ("query", "key", "value")
    )
    mixed = ops.scaled_dot_product_attention(query, key, value, attention_mask)
    joined = ops.reshape(
        ops.transpose(mixed, _axes(0, 2, 1, 3)), _axes(0, 0, WIDTH), special_zero=True
    )
    attended = _linear(weights, f"{name}.attention.output.dense", joined)
    state = _layer_norm(weights, f"{name}.attention.output", ops.add(attended, state))
    inner = ops.gelu(_linear(weights, f"{name}.intermediate.dense", state), "erf")
    outer = _linear(weights, f"{name}.output.dense", inner)
    return _layer_norm(weights, f"{name}.output", ops.add(outer, state))


def _heads(state: ov.Node) -> ov.Node:
    """[batch, length, 384] to [batch, head, length, 32]."""
    split = ops.reshape(state, _axes(0, 0, HEADS, WIDTH // HEADS), special_zero=True)
    return ops.transpose(split, _axes(0, 2, 1, 3))


def _pool(state: ov.Node, kept: ov.Node) -> ov.Node:
    """Mean of the token vectors without padding, scaled to unit length."""
    column = ops.unsqueeze(kept, _axes(2))
    total = ops.reduce_sum(ops.multiply(state, column), _axes(1), keep_dims=False)
    mean = ops.divide(total, ops.reduce_sum(kept, _axes(1), keep_dims=True))
    return ops.normalize_l2(mean, _axes(1), 1e-12, "max")


def _linear(weights: Weights, name: str, state: ov.Node) -> ov.Node:
    matrix = _constant(weights, f"{name}.weight")
    product = ops.matmul(state, matrix, transpose_a=False, transpose_b=True)
    return ops.add(product, _constant(weights, f"{name}.bias"))


def _layer_norm(weights: Weights, name: str, state: ov.Node) -> ov.Node:
    centred = ops.mvn(
        state, _axes(-1), normalize_variance=True, eps=_LAYER_NORM_EPSILON, eps_mode="inside_sqrt"
    )
    scaled = ops.multiply(centred, weights[f"{name}.LayerNorm.weight"])
    return ops.add(scaled, weights[f"{name}.LayerNorm.bias"])


def _table(weights: Weights, name: str) -> ov.Node:
    return _constant(weights, f"embeddings.{name}_embeddings.weight")


def _constant(weights: Weights, name: str) -> ov.Node:
    return ops.constant(weights[name], shared_memory=True)


def _axes(*axes: int) -> ov.Node:
    return ops.constant(np.array(axes, np.int64))


def _scalar(value: int) -> ov.Node:
    return ops.constant(np.array(value, np.int32))
