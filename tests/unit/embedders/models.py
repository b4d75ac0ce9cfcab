"""Embedders and texts that several tests share, made on the spot and never downloaded."""

from pathlib import Path
from random import Random

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from memory3.people import iter_documents

PROSE = (
    "A reference is a short text that is encoded on its own into one memory.",
    "The service is ready once its model is loaded and warm.",
    "Set the environment variable to choose the address that the server listens on.",
    "The function returns the number of bytes written, or raises an error if the disk is full.",
    "Install the package with the extra that brings the parser for this type of file.",
    "An index is rebuilt from the bank whenever its checksum does not agree.",
) * 20


def training_texts() -> list[str]:
    """Documents of training people and some ordinary prose."""
    return [*iter_documents(Random(0), 2_000), *PROSE]


def save_tiny_sentence_transformer(
    path: Path, *, seed: int = 0, prompts: dict[str, str] | None = None
) -> Path:
    """A BERT of random weights with a tokenizer of its own, saved as the library saves models."""
    source = path.parent / f"{path.name}-parts"
    tokenizer = _tokenizer()
    tokenizer.save_pretrained(source)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    BertModel(config).save_pretrained(source)
    transformer = Transformer(str(source), max_seq_length=64)
    pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode="mean")
    model = SentenceTransformer(modules=[transformer, pooling], prompts=prompts, device="cpu")
    model.save(str(path), create_model_card=False)
    return path


def _tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(PROSE, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]",
    )  # fmt: skip
