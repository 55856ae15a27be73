"""Weight files as the libraries of the Hugging Face world write them: small, real, harmless.

The parts of a diffusers pipeline, shards of a language model, an adapter, a quantized GGUF, a
`pytorch_model.bin`. Same rules as `formats.py`, whose helpers do the work.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence

from tests.hubsim.formats import TAIL_SIZE, Base, Tensor, half_floats, safetensors, torch_archive

_SHARD_LAYERS = 4
_PARTS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.o_proj", "mlp.up_proj")


def _square(names: Sequence[str], width: int) -> list[Tensor]:
    return [(name, (width, width)) for name in names]


def _width(size_bytes: int, tensors: int) -> int:
    return max(16, int((size_bytes / 2 / max(tensors, 1)) ** 0.5) // 8 * 8)


def unet(rng: random.Random, size_bytes: int, variant: int) -> Base:
    names = ["conv_in.weight", "time_embedding.linear_1.weight", "mid_block.resnets.0.conv1.weight"]
    for block in range(3):
        stem = f"down_blocks.{block}.attentions.0.transformer_blocks.0"
        names += [f"{stem}.attn1.to_q.weight", f"{stem}.attn2.to_k.weight"]
        names.append(f"up_blocks.{block}.attentions.0.transformer_blocks.0.attn2.to_v.weight")
    width = _width(size_bytes, len(names))
    return safetensors(rng, _square(names, width), {"format": "pt"}, variant)


def vae(rng: random.Random, size_bytes: int, variant: int) -> Base:
    names = [
        "encoder.conv_in.weight",
        "encoder.mid_block.attentions.0.to_q.weight",
        "decoder.conv_out.weight",
        "decoder.up_blocks.0.resnets.0.conv1.weight",
        "quant_conv.weight",
        "post_quant_conv.weight",
    ]
    return safetensors(rng, _square(names, _width(size_bytes, 6)), {"format": "pt"}, variant)


def text_encoder(rng: random.Random, size_bytes: int, variant: int) -> Base:
    names = ["text_model.embeddings.token_embedding.weight", "text_model.final_layer_norm.weight"]
    for layer in range(4):
        stem = f"text_model.encoder.layers.{layer}"
        names += [f"{stem}.self_attn.q_proj.weight", f"{stem}.mlp.fc1.weight"]
    width = _width(size_bytes, len(names))
    return safetensors(rng, _square(names, width), {"format": "pt"}, variant)


def shard_tensors(number: int) -> list[str]:
    """What the shard of that number holds; the first one has the embeddings too."""
    first = number * _SHARD_LAYERS
    names = [] if number else ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"]
    for layer in range(first, first + _SHARD_LAYERS):
        names += [f"model.layers.{layer}.{part}.weight" for part in _PARTS]
    return names


def llm_shard(rng: random.Random, size_bytes: int, variant: int) -> Base:
    """Shard `variant` of a language model: each has its own layers."""
    names = shard_tensors(variant)
    width = _width(size_bytes, len(names))
    return safetensors(rng, _square(names, width), {"format": "pt"}, 0)


def adapter(rng: random.Random, size_bytes: int, variant: int) -> Base:
    """A PEFT adapter of a language model."""
    rank, width = rng.choice((8, 16)), 256
    tensors: list[Tensor] = []
    for layer in range(max(1, min(16, size_bytes // (8 * rank * width)))):
        for part in ("q_proj", "v_proj"):
            stem = f"base_model.model.model.layers.{layer}.self_attn.{part}"
            tensors.append((f"{stem}.lora_A.weight", (rank, width)))
            tensors.append((f"{stem}.lora_B.weight", (width, rank)))
    return safetensors(rng, tensors, {"format": "pt"}, variant)


def diffusers_lora(rng: random.Random, size_bytes: int, variant: int) -> Base:
    rank, width = rng.choice((4, 8, 16)), 128 if size_bytes < 100_000 else 512
    tensors: list[Tensor] = []
    for block in range(max(1, min(19, size_bytes // (8 * rank * width)))):
        stem = f"transformer.transformer_blocks.{block}.attn.to_{'qkv'[block % 3]}"
        tensors.append((f"{stem}.lora_A.weight", (rank, width)))
        tensors.append((f"{stem}.lora_B.weight", (width, rank)))
    return safetensors(rng, tensors, {"format": "pt"}, variant)


def llm_gguf(rng: random.Random, size_bytes: int, variant: int) -> Base:
    """A language model as GGUF; `variant` is the number of its quantization (general.file_type)."""

    def text(value: str) -> bytes:
        raw = value.encode()
        return struct.pack("<Q", len(raw)) + raw

    width = 256
    layers = max(1, min(32, size_bytes // (4 * width * width)))
    words = [("general.architecture", "llama"), ("general.name", f"sim {rng.randrange(10**6)}")]
    numbers = [
        ("general.file_type", variant),
        ("llama.block_count", layers),
        ("llama.context_length", 8192),
        ("llama.embedding_length", width),
    ]
    names = ["token_embd.weight", "output.weight"]
    names += [f"blk.{layer}.attn_q.weight" for layer in range(layers)]
    out = [b"GGUF", struct.pack("<IQQ", 3, len(names), len(words) + len(numbers))]
    out += [text(key) + struct.pack("<I", 8) + text(value) for key, value in words]
    out += [text(key) + struct.pack("<II", 4, value) for key, value in numbers]
    each = 2 * width * width
    for place, name in enumerate(names):
        # Two dimensions, half floats, one behind the other.
        out.append(text(name) + struct.pack("<IQQIQ", 2, width, width, 1, place * each))
    head = b"".join(out)
    head += bytes(-len(head) % 32)
    return Base(head + half_floats(rng.randbytes(each * len(names)))[:-TAIL_SIZE], half_floats)


def pickle_weights(rng: random.Random, size_bytes: int, variant: int) -> Base:
    """`pytorch_model.bin`: an ordered dict of tensors, as torch.save writes it."""
    names = ["embeddings.word_embeddings.weight", "pooler.dense.weight"]
    names += [f"encoder.layer.{layer}.attention.self.query.weight" for layer in range(4)]
    width = _width(size_bytes, len(names))
    return torch_archive(rng, b"ccollections\nOrderedDict\n)R(", _square(names, width), b"u")


BUILDERS: dict[str, Callable[[random.Random, int, int], Base]] = {
    "unet": unet,
    "vae": vae,
    "text_encoder": text_encoder,
    "llm_shard": llm_shard,
    "adapter": adapter,
    "diffusers_lora": diffusers_lora,
    "llm_gguf": llm_gguf,
    "pickle_weights": pickle_weights,
}
