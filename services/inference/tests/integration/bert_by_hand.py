"""BERT in numpy: no padding, no mask, one text at a time, f64."""

import math
from collections.abc import Mapping

import numpy as np

from inference.engines.bert_graph import BertShape


def encode(w: Mapping[str, np.ndarray], shape: BertShape, words: np.ndarray) -> np.ndarray:
    """The unit-length vector of the word vectors [length, width] of one window.

    The weights `w` are f64, by their names.
    """
    length, width = words.shape
    head_width = width // shape.heads

    def linear(name, x):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(name, x):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return x * w[f"{name}.LayerNorm.weight"] + w[f"{name}.LayerNorm.bias"]

    def heads(x):
        return x.reshape(length, shape.heads, head_width).transpose(1, 0, 2)

    erf = np.vectorize(math.erf)
    table = "embeddings.{}_embeddings.weight".format
    x = words.astype(np.float64) + w[table("position")][:length] + w[table("token_type")][0]
    x = norm("embeddings", x)
    for layer in (f"encoder.layer.{number}" for number in range(shape.layers)):
        q, k, v = (
            heads(linear(f"{layer}.attention.self.{part}", x)) for part in ("query", "key", "value")
        )
        weight = np.exp(q @ k.transpose(0, 2, 1) / math.sqrt(head_width))
        mixed = (weight / weight.sum(-1, keepdims=True)) @ v
        mixed = mixed.transpose(1, 0, 2).reshape(length, width)
        x = norm(f"{layer}.attention.output", linear(f"{layer}.attention.output.dense", mixed) + x)
        inner = linear(f"{layer}.intermediate.dense", x)
        inner = inner * 0.5 * (1 + erf(inner / math.sqrt(2)))
        x = norm(f"{layer}.output", linear(f"{layer}.output.dense", inner) + x)
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)
