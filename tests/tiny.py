"""Tiny random models of real architectures, with a real tokenizer and chat template, made in a second."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from demur.benchmark.records import Prompt, Request
from demur.tests.invented import invented

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = "a plain sentence about the weather, a small house, bread and how the two friends never say no to a walk. " * 20
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
}
CONFIGS: dict[str, Any] = {
    "llama": lambda **more: LlamaConfig(**SHAPE, **more),
    "llama-tied": lambda **more: LlamaConfig(**SHAPE, tie_word_embeddings=True, **more),
    "mistral-window": lambda **more: MistralConfig(**SHAPE, sliding_window=12, **more),
    "mixtral": lambda **more: MixtralConfig(**SHAPE, num_local_experts=4, num_experts_per_tok=2, **more),
    "qwen3": lambda **more: Qwen3Config(**SHAPE, head_dim=8, **more),
}


def tokenizer() -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|end|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([WORDS], trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|end|>")
    made.add_tokens(["<think>", "</think>"])
    made.chat_template = TEMPLATE
    return made


def save(folder: Path, kind: str = "llama", *, template: bool = True, seed: int = 0) -> Path:
    words = tokenizer()
    if not template:
        words.chat_template = None
    torch.manual_seed(seed)
    config = CONFIGS[kind](vocab_size=len(words), eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def prompt(number: int, text: str) -> Prompt:
    return invented(f"pair{number:03d}", text)


TEXTS = ("hi", "a small house", WORDS[:90], "bread and bread and bread", "Ünïcödé?", WORDS[:200], "no")


def requests(samples: int = 2, texts: tuple[str, ...] = TEXTS) -> list[Request]:
    return [Request(prompt(number, text), tuple(range(samples))) for number, text in enumerate(texts)]
