"""The file formats the simulated hub serves, built without their libraries.

Owns the byte layout of small but real safetensors, torch zip pickles, GGUF, zip, JSON and YAML
files. Every builder returns a `Base`: bytes that many files share, and how a file's own short tail
completes them into a valid file. The tail is what makes one file differ from its neighbors while
the expensive part is made and hashed once. Nothing here is hostile: wicked files belong to the
scanner's own tests.
"""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass

TAIL_SIZE = 32
_EPOCH = (2024, 1, 1, 0, 0, 0)

# High bytes of little-endian half floats between 0.008 and 0.25 in size: random bits would be
# full of NaN and infinity, which no real weight file has.
_HALF_HIGH = bytes((0x20 + (value & 0x0F)) | (value & 0x80) for value in range(256))


@dataclass(frozen=True, slots=True)
class Base:
    """`prefix` is common to all files of this base; `finish` makes the rest from 32 bytes."""

    prefix: bytes
    finish: Callable[[bytes], bytes]


def half_floats(raw: bytes) -> bytes:
    """Turn random bytes into plausible half-precision weights (length stays the same)."""
    out = bytearray(raw)
    out[1::2] = out[1::2].translate(_HALF_HIGH)
    return bytes(out)


def _weights(rng: random.Random, size_bytes: int) -> bytes:
    return half_floats(rng.randbytes(size_bytes))


Tensor = tuple[str, tuple[int, ...]]


def _numel(shape: Sequence[int]) -> int:
    total = 1
    for side in shape:
        total *= side
    return total


def _lora_tensors(rng: random.Random, budget_bytes: int) -> list[Tensor]:
    rank = rng.choice((4, 8, 16, 32))
    width = 64 if budget_bytes < 60_000 else 320 if budget_bytes < 600_000 else 1280
    tensors: list[Tensor] = []
    used = 0
    for block in range(64):
        part = "down_blocks" if block < 24 else "up_blocks"
        stem = (
            f"lora_unet_{part}_{block % 3}_attentions_{block // 3 % 2}"
            f"_transformer_blocks_{block // 6}_attn{1 + block % 2}_to_{'kqv'[block % 3]}"
        )
        pair = 4 * rank * width + 2
        if used and used + pair > budget_bytes:
            break
        tensors += [
            (f"{stem}.alpha", ()),
            (f"{stem}.lora_down.weight", (rank, width)),
            (f"{stem}.lora_up.weight", (width, rank)),
        ]
        used += pair
    return tensors


def _checkpoint_tensors(rng: random.Random, budget_bytes: int) -> list[Tensor]:
    width = 64 if budget_bytes < 400_000 else 128
    names = [
        "model.diffusion_model.time_embed.0.weight",
        "model.diffusion_model.input_blocks.0.0.weight",
        "model.diffusion_model.middle_block.1.proj_in.weight",
        "model.diffusion_model.output_blocks.11.1.proj_out.weight",
        "first_stage_model.encoder.conv_in.weight",
        "first_stage_model.decoder.conv_out.weight",
        "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
    ]
    for block in range(1, 400):
        names.append(f"model.diffusion_model.input_blocks.{block}.1.proj_in.weight")
    count = max(len(names[:7]), min(len(names), budget_bytes // (2 * width * width)))
    return [(name, (width, width)) for name in names[:count]]


def safetensors(
    rng: random.Random, tensors: Sequence[Tensor], metadata: dict[str, str], variant: int
) -> Base:
    header: dict[str, object] = {}
    if variant:
        # Another header over the same tensors: the hub's AutoV3 agrees, SHA256 does not.
        metadata = {**metadata, "modelspec.title": f"re-saved {variant}"}
    header["__metadata__"] = metadata
    offset = 0
    for name, shape in tensors:
        end = offset + 2 * _numel(shape)
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    data = _weights(rng, offset)
    prefix = struct.pack("<Q", len(text)) + text + data[:-TAIL_SIZE]
    return Base(prefix, half_floats)


def lora(rng: random.Random, size_bytes: int, variant: int) -> Base:
    rank = rng.choice(("8", "16", "32"))
    metadata = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": rank,
        "ss_network_alpha": rank,
        "ss_base_model_version": rng.choice(("sdxl_base_v1-0", "sd_v1", "flux1")),
        "ss_num_train_images": str(rng.randrange(12, 400)),
        "ss_epoch": str(rng.randrange(4, 20)),
        "ss_tag_frequency": json.dumps({"10_subject": {"1girl": 40, "solo": 31}}),
    }
    return safetensors(rng, _lora_tensors(rng, size_bytes), metadata, variant)


def checkpoint(rng: random.Random, size_bytes: int, variant: int) -> Base:
    return safetensors(rng, _checkpoint_tensors(rng, size_bytes), {"format": "pt"}, variant)


def embedding(rng: random.Random, size_bytes: int, variant: int) -> Base:
    rows = max(1, min(75, size_bytes // 1536))
    return safetensors(rng, [("emb_params", (rows, 768))], {"format": "pt"}, variant)


# --- torch's zip layout -------------------------------------------------------------------------


def _text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def _number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def _ints(values: Sequence[int]) -> bytes:
    return b"(" + b"".join(map(_number, values)) + b"t"


def _tensor(storage: int, shape: Sequence[int], kind: str) -> bytes:
    strides, step = [], 1
    for side in reversed(shape):
        strides.append(step)
        step *= side
    storage_id = (
        b"("
        + _text("storage")
        + f"ctorch\n{kind}\n".encode()
        + _text(str(storage))
        + _text("cpu")
        + _number(_numel(shape))
        + b"tQ"
    )
    hooks = b"ccollections\nOrderedDict\n)R"
    args = storage_id + _number(0) + _ints(shape) + _ints(strides[::-1]) + b"\x89" + hooks
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + args + b"tR"


def _zip(members: Sequence[tuple[str, bytes]], compression: int) -> Base:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members:
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = compression
            archive.writestr(info, data)
    # The tail goes into the archive comment, the one place at the end that is free to differ.
    return Base(buffer.getvalue()[:-2] + struct.pack("<H", TAIL_SIZE), bytes)


def torch_archive(rng: random.Random, head: bytes, tensors: Sequence[Tensor], foot: bytes) -> Base:
    pickle = [b"\x80\x02", head]
    members: list[tuple[str, bytes]] = []
    for number, (name, shape) in enumerate(tensors):
        pickle += [_text(name), _tensor(number, shape, "HalfStorage")]
        members.append((f"archive/data/{number}", _weights(rng, 2 * _numel(shape))))
    pickle += [foot, b"."]
    members.insert(0, ("archive/data.pkl", b"".join(pickle)))
    members.append(("archive/version", b"3\n"))
    return _zip(members, zipfile.ZIP_STORED)


def pickle_checkpoint(rng: random.Random, size_bytes: int, variant: int) -> Base:
    """`{"state_dict": OrderedDict(name -> tensor)}` in the layout torch.save writes."""
    head = b"}(" + _text("state_dict") + b"ccollections\nOrderedDict\n)R("
    return torch_archive(rng, head, _checkpoint_tensors(rng, size_bytes), b"uu")


def pickle_embedding(rng: random.Random, size_bytes: int, variant: int) -> Base:
    rows = max(1, min(75, size_bytes // 1536))
    head = b"}(" + _text("string_to_param") + b"}("
    foot = b"u" + _text("step") + _number(rng.randrange(100, 9000)) + b"u"
    return torch_archive(rng, head, [("*", (rows, 768))], foot)


# --- the others ---------------------------------------------------------------------------------


def archive(rng: random.Random, size_bytes: int, variant: int) -> Base:
    """Training pictures with their captions, poses, wildcards: files in a plain zip."""
    members: list[tuple[str, bytes]] = []
    each = max(512, size_bytes // 6)
    for number in range(1, 7):
        caption = ", ".join(rng.sample(("1girl", "solo", "smile", "sky", "city", "cat"), 3))
        members.append((f"dataset/{number:03}.txt", caption.encode()))
        members.append((f"dataset/{number:03}.png", b"\x89PNG\r\n\x1a\n" + rng.randbytes(each)))
    return _zip(members, zipfile.ZIP_DEFLATED)


def gguf(rng: random.Random, size_bytes: int, variant: int) -> Base:
    def text(value: str) -> bytes:
        raw = value.encode()
        return struct.pack("<Q", len(raw)) + raw

    rows = max(2, size_bytes // 2 // 256)
    facts = [("general.architecture", "flux"), ("general.name", f"sim {rng.randrange(10**6)}")]
    out = [b"GGUF", struct.pack("<IQQ", 3, 1, len(facts))]
    out += [text(key) + struct.pack("<I", 8) + text(value) for key, value in facts]
    out.append(text("double_blocks.0.img_attn.qkv.weight"))
    out.append(struct.pack("<IQQIQ", 2, 256, rows, 1, 0))  # two dimensions, F16, offset 0
    head = b"".join(out)
    head += bytes(-len(head) % 32)
    return Base(head + _weights(rng, rows * 512)[:-TAIL_SIZE], half_floats)


def config(rng: random.Random, size_bytes: int, variant: int) -> Base:
    text = (
        "model:\n"
        "  base_learning_rate: 1.0e-04\n"
        "  target: ldm.models.diffusion.ddpm.LatentDiffusion\n"
        f"  params:\n    timesteps: 1000\n    image_size: {rng.choice((32, 64, 96))}\n"
        "# made by: "
    )
    return Base(text.encode(), lambda tail: tail.hex().encode() + b"\n")


def workflow(rng: random.Random, size_bytes: int, variant: int) -> Base:
    kinds = ("CheckpointLoaderSimple", "LoraLoader", "CLIPTextEncode", "KSampler", "VAEDecode")
    nodes = [
        {"id": number, "type": kinds[number % 5], "pos": [rng.randrange(900), 80 * number]}
        for number in range(1, 12)
    ]
    text = json.dumps({"version": 0.4, "last_node_id": 11, "nodes": nodes, "links": []})
    return Base(
        text[:-1].encode() + b', "extra": {"id": "',
        lambda tail: tail.hex().encode() + b'"}}\n',
    )


BUILDERS: dict[str, Callable[[random.Random, int, int], Base]] = {
    "lora": lora,
    "checkpoint": checkpoint,
    "embedding": embedding,
    "pickle_checkpoint": pickle_checkpoint,
    "pickle_embedding": pickle_embedding,
    "archive": archive,
    "gguf": gguf,
    "config": config,
    "workflow": workflow,
}
