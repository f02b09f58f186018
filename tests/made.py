"""Logs and models that tests of the PRM make for themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from selfreg.data import Step, Trajectory
from selfreg.prm import EncoderConfig
from selfreg.prm.encoder import create_from_scratch, fix_seed

WORDS = ["north", "south", "east", "west", "door", "key", "lamp", "table", "open", "closed", "near", "far"]


def colours(tasks: int = 20, episodes: int = 10, seed: int = 0, luck: float = 0.95) -> list[Trajectory]:
    """Episodes of two steps; the word in the state decides, mostly; every third is helped at its first step."""
    rng, logs = np.random.default_rng(seed), []
    for task in range(tasks):
        for episode in range(episodes):
            good = rng.random() < 0.5
            words = [[*rng.choice(WORDS, 6), "green" if good else "red"] for _ in range(2)]
            steps = tuple(Step(state=" ".join(rng.permutation(shown))) for shown in words)
            if episode % 3 == 0:
                steps = (Step(state=steps[0].state, intervention="help"), steps[1])
            outcome = float((rng.random() < luck) == good)
            logs.append(Trajectory(task=f"task {task}", episode=f"{task}-{episode}", outcome=outcome, steps=steps))
    return logs


def pretrained_folder(kind: str, folder: Path) -> Path:
    """A small untrained model saved as its makers would: an encoder without a head, or a causal language model."""
    texts = [step.state for log in colours() for step in log.steps]
    _, tokenizer = create_from_scratch(1, texts, EncoderConfig(max_tokens=64))
    tokenizer.eos_token = "[SEP]"
    if kind != "bert":
        tokenizer.pad_token = None  # as those of most causal models
    size = len(tokenizer)
    make = {
        "bert": lambda: BertModel(
            BertConfig(
                vocab_size=size,
                hidden_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=64,
                max_position_embeddings=64,
            )
        ),
        "gpt2": lambda: GPT2LMHeadModel(
            GPT2Config(vocab_size=size, n_embd=32, n_layer=1, n_head=2, n_positions=64, bos_token_id=1, eos_token_id=2)
        ),
        "llama": lambda: LlamaForCausalLM(
            LlamaConfig(
                vocab_size=size,
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=1,
                num_attention_heads=2,
                num_key_value_heads=1,
                max_position_embeddings=64,
                bos_token_id=1,
                eos_token_id=2,
                tie_word_embeddings=False,
            )
        ),
    }[kind]
    with fix_seed(0, "cpu"):  # the same in any order of the tests
        model = make()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    assert AutoTokenizer.from_pretrained(folder).eos_token == "[SEP]"
    return folder
