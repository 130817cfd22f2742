"""A model whose weights write set texts: the last token of its prompt decides which one.

Random weights never call a function or think by themselves; this model does, token by token.
"""

from itertools import pairwise
from pathlib import Path

import torch
from tokenizers import AddedToken
from transformers import Qwen2Config, Qwen2ForCausalLM

from tests.vllm.tiny_model import CONTEXT_TOKENS, END, PAD, make_tokenizer

# The first token ends the prompt. Within all of them, a token is followed by one other only.
CALLS = ["calls", "<think>", "It wants ", "a note.", "</think>", "Noted. ", "<tool_call>"]
CALLS += ['{"name": "note", ', '"arguments": {"deep": true}}', "</tool_call>", END]
BREAKS = ["breaks", "Oh. ", "<tool_", "call>", '{"name": "no', '", {{]', "</tool_", "call >", END]
WIDTH = 128
TEMPLATE = (
    "You write what you are told to.{% for message in messages %}{{ message.content }}{% endfor %}"
)


def make_scripted_model(folder: Path) -> Path:
    """Writes the model and its tokenizer; returns the folder."""
    tokenizer = make_tokenizer(TEMPLATE)
    words = dict.fromkeys(word for script in (CALLS, BREAKS) for word in script if word != END)
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in words])
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=CONTEXT_TOKENS,
        eos_token_id=tokenizer.convert_tokens_to_ids(END),
        pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
        tie_word_embeddings=False,
    )
    torch.manual_seed(1)
    model = Qwen2ForCausalLM(config)
    [layer] = model.model.layers
    with torch.no_grad():
        # Nothing comes out of the layer, so only the last token counts.
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.zero_()
        model.lm_head.weight.zero_()
        place = {word: number for number, word in enumerate(words)}
        for script in (CALLS, BREAKS):
            for word, following in pairwise(script):
                ids = tokenizer.convert_tokens_to_ids([word, following])
                model.model.embed_tokens.weight[ids[0], place[word]] = 1.0
                model.lm_head.weight[ids[1], place[word]] = 10.0
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
