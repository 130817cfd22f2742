"""A BERT sentence encoder as an OpenVINO graph, built straight from published weights.

It needs no torch, no ONNX file and no conversion step. The graph shares the memory of the weights:
copying them would take most of the time and twice the memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset13 as ops

Weights = Mapping[str, npt.NDArray[np.float32]]

PAD_ID = 0
WORD_TABLE = "embeddings.word_embeddings.weight"

# Large enough to mask a token; with -3e38 some forms of this graph are wrong in bf16.
_MASKED = -1e4


@dataclass(frozen=True, slots=True, kw_only=True)
class BertShape:
    """The sizes of an encoder; `width` is the length of its token vectors and of its result."""

    layers: int
    heads: int
    width: int
    layer_norm_epsilon: float = 1e-12


def sentence_encoder(weights: Weights, shape: BertShape) -> ov.Model:
    """Graph from token ids, i32 [batch, length], to unit-length vectors, f32 [batch, width].

    Rows are padded on the right with `PAD_ID`, which is masked. Length is at most the number of
    position embeddings. Without `WORD_TABLE` among the weights, the word vectors of the ids are a
    second input, f32 [batch, length, width].
    """
    return _Graph(weights, shape).build()


class _Graph:
    """Builds one graph."""

    def __init__(self, weights: Weights, shape: BertShape) -> None:
        self._weights = weights
        self._shape = shape

    def build(self) -> ov.Model:
        ids = ops.parameter([-1, -1], np.int32, name="ids")
        inputs = [ids]
        if WORD_TABLE in self._weights:
            words = ops.gather(self._constant(WORD_TABLE), ids, _scalar(0))
        else:
            words = ops.parameter([-1, -1, self._shape.width], np.float32, name="words")
            inputs.append(words)
        kept = ops.convert(ops.not_equal(ids, _scalar(PAD_ID)), "f32")
        attention_mask = ops.unsqueeze(
            ops.multiply(ops.subtract(np.float32(1), kept), np.float32(_MASKED)), _axes(1, 2)
        )
        state = self._embeddings(ids, words)
        for layer in range(self._shape.layers):
            state = self._layer(f"encoder.layer.{layer}", state, attention_mask)
        return ov.Model([_pool(state, kept)], inputs, "sentence_encoder")

    def _embeddings(self, ids: ov.Node, words: ov.Node) -> ov.Node:
        length = ops.gather(ops.shape_of(ids, "i32"), _scalar(1), _scalar(0))
        positions = ops.range(_scalar(0), length, _scalar(1), "i32")
        table = self._constant("embeddings.position_embeddings.weight")
        places = ops.gather(table, positions, _scalar(0))
        segment = self._weights["embeddings.token_type_embeddings.weight"][0]
        return self._layer_norm("embeddings", ops.add(ops.add(words, places), segment))

    def _layer(self, name: str, state: ov.Node, attention_mask: ov.Node) -> ov.Node:
        query, key, value = (
            self._heads(self._linear(f"{name}.attention.self.{part}", state))
            for part in ("query", "key", "value")
        )
        mixed = ops.scaled_dot_product_attention(query, key, value, attention_mask)
        joined = ops.reshape(
            ops.transpose(mixed, _axes(0, 2, 1, 3)),
            _axes(0, 0, self._shape.width),
            special_zero=True,
        )
        attended = self._linear(f"{name}.attention.output.dense", joined)
        state = self._layer_norm(f"{name}.attention.output", ops.add(attended, state))
        inner = ops.gelu(self._linear(f"{name}.intermediate.dense", state), "erf")
        outer = self._linear(f"{name}.output.dense", inner)
        return self._layer_norm(f"{name}.output", ops.add(outer, state))

    def _heads(self, state: ov.Node) -> ov.Node:
        """[batch, length, width] to [batch, head, length, width of a head]."""
        heads, width = self._shape.heads, self._shape.width
        split = ops.reshape(state, _axes(0, 0, heads, width // heads), special_zero=True)
        return ops.transpose(split, _axes(0, 2, 1, 3))

    def _linear(self, name: str, state: ov.Node) -> ov.Node:
        matrix = self._constant(f"{name}.weight")
        product = ops.matmul(state, matrix, transpose_a=False, transpose_b=True)
        return ops.add(product, self._constant(f"{name}.bias"))

    def _layer_norm(self, name: str, state: ov.Node) -> ov.Node:
        centred = ops.mvn(
            state,
            _axes(-1),
            normalize_variance=True,
            eps=self._shape.layer_norm_epsilon,
            eps_mode="inside_sqrt",
        )
        scaled = ops.multiply(centred, self._weights[f"{name}.LayerNorm.weight"])
        return ops.add(scaled, self._weights[f"{name}.LayerNorm.bias"])

    def _constant(self, name: str) -> ov.Node:
        return ops.constant(self._weights[name], shared_memory=True)


def _pool(state: ov.Node, kept: ov.Node) -> ov.Node:
    """Mean of the token vectors without padding, scaled to unit length."""
    column = ops.unsqueeze(kept, _axes(2))
    total = ops.reduce_sum(ops.multiply(state, column), _axes(1), keep_dims=False)
    mean = ops.divide(total, ops.reduce_sum(kept, _axes(1), keep_dims=True))
    return ops.normalize_l2(mean, _axes(1), 1e-12, "max")


def _axes(*axes: int) -> ov.Node:
    return ops.constant(np.array(axes, np.int64))


def _scalar(value: int) -> ov.Node:
    return ops.constant(np.array(value, np.int32))
