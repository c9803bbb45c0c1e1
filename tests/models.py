"""Small models of real classes with tokenizers trained here, saved as ordinary Hugging Face folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

TEXTS = [
    "Question: What is the capital of France?\nAnswer: Paris",
    "Question: Who directed Alien?\nAnswer: Ridley Scott",
    "Question: What is George Rankin's occupation?\nAnswer: politician",
    "Question: In what city was Zoë Müller born?\nAnswer: Zürich",
] * 4


def save_tiny_model(kind: str, folder: Path) -> Path:
    """A seeded, untrained model of one class; `kind` is a key of KINDS."""
    import torch

    torch.manual_seed(0)
    make_tokenizer, make_model = KINDS[kind]
    tokenizer = make_tokenizer()
    model = make_model(len(tokenizer))
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _byte_level(add_bos: bool) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(TEXTS, trainer)
    if add_bos:
        backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="</s>")


CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _chatty() -> Any:
    """Puts <s> before every text by itself, which its chat template does not; the end of a turn is no end of text."""
    tokenizer = _byte_level(add_bos=True)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHATML
    return tokenizer


def _byte_fallback() -> Any:
    """As in Llama 2: a space is ▁, and a character outside the vocabulary becomes one token a byte."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=special, limit_alphabet=40, max_token_length=6, show_progress=False
    )
    backend.train_from_iterator(TEXTS, trainer)
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<unk>"
    )


def _qwen_like() -> Any:
    """As in Qwen 2: bytes, normalised to NFC, digits one by one, and no token at the beginning."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizers.NFC()
    words = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|endoftext|>", pad_token="<|endoftext|>", unk_token=None, bos_token=None
    )


def _gemma_like() -> Any:
    """As in Gemma: a space is ▁ but none is put in front, bytes as a last resort, <bos> at the beginning."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=special, limit_alphabet=40, max_token_length=6, show_progress=False
    )
    backend.train_from_iterator(TEXTS, trainer)
    backend.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>", unk_token="<unk>", pad_token="<pad>"
    )


def _llama(vocabulary: int, context: int = 128) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=context,
            initializer_range=0.3,  # spread wide, so that wrong positions or masks show in the losses
        )
    )


def _gpt2(vocabulary: int) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(vocab_size=vocabulary, n_embd=32, n_layer=2, n_head=4, n_positions=128, initializer_range=0.3)
    )


def _gpt_neo(vocabulary: int) -> Any:
    """Its second layer sees a window only, counted in places of the sequence, whatever mask it is given."""
    from transformers import GPTNeoConfig, GPTNeoForCausalLM

    return GPTNeoForCausalLM(
        GPTNeoConfig(
            vocab_size=vocabulary,
            hidden_size=32,
            num_layers=2,
            num_heads=4,
            attention_types=[[["global", "local"], 1]],
            window_size=72,
            max_position_embeddings=256,
            initializer_range=0.3,
        )
    )


def _mistral(vocabulary: int) -> Any:
    """Its sliding window is shorter than most prompts here."""
    from transformers import MistralConfig, MistralForCausalLM

    return MistralForCausalLM(
        MistralConfig(
            vocab_size=vocabulary,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            sliding_window=12,
            initializer_range=0.3,
        )
    )


def _qwen(vocabulary: int) -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=vocabulary,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            initializer_range=0.3,
        )
    )


def _gemma(vocabulary: int) -> Any:
    """Gemma 2: some layers see a window only, and the logits are capped after the output head."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    return Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=vocabulary,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            max_position_embeddings=256,
            sliding_window=12,
            final_logit_softcapping=3.0,
            initializer_range=0.3,
        )
    )


def _mamba(vocabulary: int) -> Any:
    """No attention, so no keys and values that rows could share."""
    from transformers import MambaConfig, MambaForCausalLM

    return MambaForCausalLM(
        MambaConfig(vocab_size=vocabulary, hidden_size=16, state_size=4, num_hidden_layers=2, initializer_range=0.3)
    )


KINDS: dict[str, tuple[Callable[[], Any], Callable[[int], Any]]] = {
    "llama": (lambda: _byte_level(add_bos=True), _llama),
    "gpt2": (lambda: _byte_level(add_bos=False), _gpt2),
    "gpt-neo": (lambda: _byte_level(add_bos=False), _gpt_neo),
    "byte-fallback": (_byte_fallback, _llama),
    "mistral": (_byte_fallback, _mistral),
    "qwen": (_qwen_like, _qwen),
    "gemma": (_gemma_like, _gemma),
    "chat": (_chatty, lambda vocabulary: _llama(vocabulary, context=512)),
    "mamba": (lambda: _byte_level(add_bos=False), _mamba),
}


def write_gguf(
    folder: Path, path: Path, kind: str = "F32", edit: Callable[[Any, dict[str, Any]], None] | None = None
) -> Path:
    """A tiny Llama's folder as a GGUF file, its matrices of one type, as llama.cpp converts models.

    `edit` is given the writer, before anything is written, and the tensors by name.
    """
    import json

    import gguf
    import numpy as np
    from safetensors.numpy import load_file

    config, tokens = (json.loads((folder / name).read_text()) for name in ("config.json", "tokenizer.json"))
    told = json.loads((folder / "tokenizer_config.json").read_text())
    heads, layers = config["num_attention_heads"], config["num_hidden_layers"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(layers)
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["hidden_size"] // heads)
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    added = {token["content"]: token["id"] for token in tokens["added_tokens"]}
    vocabulary = sorted({**tokens["model"]["vocab"], **added}.items(), key=lambda item: item[1])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types([3 if token in added else 1 for token, _ in vocabulary])
    writer.add_token_merges([" ".join(pair) for pair in tokens["model"]["merges"]])
    writer.add_bos_token_id(added[told["bos_token"]])
    writer.add_eos_token_id(added[told["eos_token"]])
    writer.add_add_bos_token(True)
    if (folder / "chat_template.jinja").is_file():
        writer.add_chat_template((folder / "chat_template.jinja").read_text())
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, layers)
    tensors: dict[str, Any] = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        if ".q_proj." in name or ".k_proj." in name:  # llama.cpp turns neighbours, transformers halves of a head
            count = heads if ".q_proj." in name else config["num_key_value_heads"]
            tensor = tensor.reshape(count, 2, -1, tensor.shape[1]).swapaxes(1, 2).reshape(tensor.shape)
        tensors[f"{names.get_name(name.removesuffix('.weight'))}.weight"] = np.ascontiguousarray(tensor)
    if edit is not None:
        edit(writer, tensors)
    for name, tensor in tensors.items():
        type_ = gguf.GGMLQuantizationType[kind if tensor.ndim == 2 and tensor.dtype == np.float32 else "F32"]
        if tensor.dtype == np.float32 and type_.name != "F32":
            writer.add_tensor(name, gguf.quantize(tensor, type_), raw_dtype=type_)
        else:
            writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
