import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engines import minilm, multilingual
from inference.scripts import is_known


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("where is the key", True),
        ("o\u00f9 est la cl\u00e9", True),
        ("\u5e74\u5047\u6709\u51e0\u5929", False),
        ("\u0433\u0434\u0435 \u043a\u043b\u044e\u0447", False),
        ("\u5e74\u5047 PPR-9087", True),
        ("\u5e74\u5047\u6709\u51e0\u5929 XY", False),
        ("4712", True),
        ("", True),
    ],
)
def test_a_model_of_latin_letters_knows_texts_with_enough_of_them(text, known):
    assert is_known(text, {"LATIN"}) is known


@given(st.text())
def test_a_model_without_scripts_knows_every_text(text):
    assert is_known(text, frozenset())


def test_the_built_in_models_tell_their_scripts():
    assert minilm.read_model().scripts == {"LATIN"}
    assert multilingual.read_model().scripts == frozenset()
