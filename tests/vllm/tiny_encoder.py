"""BERT models with random weights, made on the spot: one that embeds, and one that scores pairs."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    PreTrainedTokenizerFast,
)

WINDOW_TOKENS = 256
DIMENSIONS = 64
VOCABULARY = 2_048
SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
# As sentence-transformers writes it; without it the vector would be that of the first token, which
# says little with random weights.
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]
POOLING = {"word_embedding_dimension": DIMENSIONS, "pooling_mode_mean_tokens": True}


def make_embedder(folder: Path) -> Path:
    """Writes an embedding model with mean pooling, and its tokenizer; returns the folder."""
    torch.manual_seed(1)
    BertModel(_config()).save_pretrained(folder)
    _make_tokenizer().save_pretrained(folder)
    (folder / "modules.json").write_text(json.dumps(MODULES))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(POOLING))
    return folder


def make_cross_encoder(folder: Path) -> Path:
    """Writes a model that scores two texts, and its tokenizer; returns the folder."""
    torch.manual_seed(1)
    BertForSequenceClassification(_config(num_labels=1)).save_pretrained(folder)
    _make_tokenizer().save_pretrained(folder)
    return folder


def _config(**more: int) -> BertConfig:
    return BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=DIMENSIONS,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=WINDOW_TOKENS,
        # Ten times the usual one, so that texts differ.
        initializer_range=0.2,
        **more,
    )


def _make_tokenizer() -> PreTrainedTokenizerFast:
    """Pieces of words, learned from the documentation of this project."""
    trained = Tokenizer(models.WordPiece(unk_token=SPECIAL["unk"]))
    trained.normalizer = normalizers.BertNormalizer()
    trained.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCABULARY, special_tokens=[*SPECIAL.values()], show_progress=False
    )
    texts = [path.read_text() for path in sorted(Path(__file__).parents[2].glob("docs/*.md"))]
    trained.train_from_iterator(texts, trainer)
    ids = {name: trained.token_to_id(token) for name, token in SPECIAL.items()}
    trained.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["cls"]), ("[SEP]", ids["sep"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=trained,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        model_max_length=WINDOW_TOKENS,
        **{f"{name}_token": token for name, token in SPECIAL.items()},
    )
