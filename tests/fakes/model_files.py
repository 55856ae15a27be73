"""Model files made to the letter of what is known of each architecture: names and shapes, no data.

A file is a true header over a hole of the right length, as large and as cheap as one likes. Each
sample says what it is; what a program may conclude from it is what the tests ask.
"""

import json
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Sample:
    """One file: ``base`` is the base model that its makers would state."""

    kind: str
    type: str
    base: str | None
    tensors: dict[str, Shape]
    metadata: dict[str, str] = field(default_factory=dict)
    name: str = "model.safetensors"
    folder: str = ""


def write_safetensors(path: Path, tensors: dict[str, Shape], metadata: dict[str, str]) -> None:
    """A file any reader opens; its tensors are a hole."""
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    offset = 0
    for name, shape in tensors.items():
        size = 2
        for side in shape:
            size *= side
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + offset)


def write_gguf(
    path: Path, values: dict[str, object], tensors: dict[str, Shape], *, order: str = "<"
) -> None:
    """A GGUF file of version 3; lists of texts are written as such."""

    def text(value: str) -> bytes:
        raw = value.encode()
        return struct.pack(order + "Q", len(raw)) + raw

    out = [b"GGUF", struct.pack(order + "IQQ", 3, len(tensors), len(values))]
    for key, value in values.items():
        out.append(text(key))
        if isinstance(value, bool):
            out.append(struct.pack(order + "I?", 7, value))
        elif isinstance(value, int):
            out.append(struct.pack(order + "II", 4, value))
        elif isinstance(value, float):
            out.append(struct.pack(order + "If", 6, value))
        elif isinstance(value, list):
            out.append(struct.pack(order + "IIQ", 9, 8, len(value)))
            out += map(text, value)
        else:
            out.append(struct.pack(order + "I", 8) + text(str(value)))
    for name, shape in tensors.items():
        out.append(text(name) + struct.pack(order + "I", len(shape)))
        out.append(struct.pack(order + f"{len(shape)}Q", *shape[::-1]))
        out.append(struct.pack(order + "IQ", 1, 0))
    path.write_bytes(b"".join(out) + b"\0" * 64)


# --- parts --------------------------------------------------------------------------------------


def _unet(
    prefix: str, width: int, *, channels: int = 4, blocks: tuple[int, ...]
) -> dict[str, Shape]:
    found: dict[str, Shape] = {f"{prefix}input_blocks.0.0.weight": (320, channels, 3, 3)}
    for block in blocks:
        stem = f"{prefix}input_blocks.{block}.1.transformer_blocks.0"
        found[f"{stem}.attn1.to_k.weight"] = (640, 640)
        found[f"{stem}.attn2.to_k.weight"] = (640, width)
    found[f"{prefix}time_embed.0.weight"] = (1280, 320)
    found[f"{prefix}out.2.weight"] = (4, 320, 3, 3)
    if width in (2048, 1280):
        found[f"{prefix}label_emb.0.0.weight"] = (1280, 2816 if width == 2048 else 2560)
    return found


def _vae(prefix: str, channels: int = 4) -> dict[str, Shape]:
    return {
        f"{prefix}decoder.conv_in.weight": (512, channels, 3, 3),
        f"{prefix}decoder.up.3.upsample.conv.weight": (512, 512, 3, 3),
        f"{prefix}encoder.conv_in.weight": (128, 3, 3, 3),
    }


def _flux(prefix: str, *, guided: bool, extra: tuple[str, ...] = ()) -> dict[str, Shape]:
    found: dict[str, Shape] = {f"{prefix}img_in.weight": (3072, 64)}
    for block in range(19):
        found[f"{prefix}double_blocks.{block}.img_attn.norm.key_norm.scale"] = (128,)
        for part in ("img_attn.qkv", "img_attn.proj", "img_mlp.0", "txt_attn.qkv"):
            found[f"{prefix}double_blocks.{block}.{part}.weight"] = (9216, 3072)
    for block in range(38):
        for part in ("linear1", "linear2", "modulation.lin"):
            found[f"{prefix}single_blocks.{block}.{part}.weight"] = (3072, 3072)
    if guided:
        found[f"{prefix}guidance_in.in_layer.weight"] = (3072, 256)
    return found | {prefix + name: (3072, 3072) for name in extra}


def _pairs(stems: Iterator[tuple[str, int, int]], rank: int, dialect: str) -> dict[str, Shape]:
    found: dict[str, Shape] = {}
    for stem, into, out in stems:
        if dialect == "kohya":
            flat = "lora_unet_" + stem.replace(".", "_")
            found[f"{flat}.lora_down.weight"] = (rank, into)
            found[f"{flat}.lora_up.weight"] = (out, rank)
            found[f"{flat}.alpha"] = ()
        else:
            lead = "diffusion_model." if dialect == "comfy" else f"{dialect}."
            found[f"{lead}{stem}.lora_A.weight"] = (rank, into)
            found[f"{lead}{stem}.lora_B.weight"] = (out, rank)
    return found


def _unet_stems(width: int, inner: int) -> Iterator[tuple[str, int, int]]:
    for block in (1, 2):
        for depth in range(inner):
            stem = f"down_blocks.{block}.attentions.0.transformer_blocks.{depth}"
            yield f"{stem}.attn1.to_q", 640, 640
            yield f"{stem}.attn2.to_k", width, 640


def _block_stems(blocks: int, parts: tuple[str, ...], width: int) -> Iterator[tuple[str, int, int]]:
    for block in range(blocks):
        for part in parts:
            yield part.format(block), width, width


_FLUX_PARTS = ("double_blocks.{}.img_attn.qkv", "double_blocks.{}.txt_mlp.0")
_WAN_PARTS = ("blocks.{}.cross_attn.k", "blocks.{}.self_attn.q", "blocks.{}.ffn.0")
_QWEN_PARTS = ("transformer_blocks.{}.attn.add_k_proj", "transformer_blocks.{}.img_mlp.net.0.proj")
_SD3_PARTS = ("joint_blocks.{}.context_block.attn.qkv", "joint_blocks.{}.x_block.mlp.fc1")
_ZIMAGE_PARTS = ("layers.{}.attention.to_q", "layers.{}.feed_forward.w1")


# --- samples ------------------------------------------------------------------------------------


def _checkpoints(rng: random.Random) -> Iterator[Sample]:
    lead = "model.diffusion_model."
    clip = "cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight"
    yield Sample(
        "SD 1 checkpoint", "Checkpoint", "SD 1.5",
        _unet(lead, 768, blocks=(1, 2, 4)) | _vae("first_stage_model.") | {clip: (3072, 768)},
        name=f"{rng.choice(['deliberate_v2', 'meinamix', 'anything'])}.safetensors",
        folder="checkpoints",
    )  # fmt: skip
    yield Sample(
        "SD 1 inpainting", "Checkpoint", "SD 1.5",
        _unet(lead, 768, channels=9, blocks=(1, 2, 4)) | _vae("first_stage_model.")
        | {clip: (3072, 768)},
        name="dream-inpainting.safetensors", folder="Stable-diffusion",
    )  # fmt: skip
    yield Sample(
        "SD 2 checkpoint", "Checkpoint", "SD 2.1",
        _unet(lead, 1024, blocks=(1, 2)) | _vae("first_stage_model.")
        | {"cond_stage_model.model.ln_final.weight": (1024,)},
        name="v2-1_768.safetensors", folder="checkpoints",
    )  # fmt: skip
    sdxl = (
        _unet(lead, 2048, blocks=(4, 5, 7)) | _vae("first_stage_model.")
        | {"conditioner.embedders.0.transformer.text_model.final_layer_norm.weight": (768,),
           "conditioner.embedders.1.model.ln_final.weight": (1280,)}
    )  # fmt: skip
    yield Sample(
        "SDXL checkpoint", "Checkpoint", "SDXL 1.0", sdxl, name="sd_xl_base_1.0.safetensors"
    )
    yield Sample(
        "Pony by name", "Checkpoint", "Pony", sdxl, name="ponyDiffusionV6XL_v6.safetensors"
    )
    yield Sample(
        "Illustrious by name",
        "Checkpoint",
        "Illustrious",
        sdxl,
        name="waiIllustriousSDXL_v140.safetensors",
    )
    yield Sample(
        "Flux dev all in one", "Checkpoint", "Flux.1 D",
        _flux(lead, guided=True) | _vae("vae.", 16)
        | {"text_encoders.t5xxl.shared.weight": (32128, 4096)},
        name="flux1-dev-fp8.safetensors", folder="checkpoints",
    )  # fmt: skip


def _diffusion_models(rng: random.Random) -> Iterator[Sample]:
    folder = rng.choice(["diffusion_models", "unet", ""])

    def of(kind: str, base: str, tensors: dict[str, Shape], name: str = "model") -> Sample:
        return Sample(kind, "UNet", base, tensors, name=f"{name}.safetensors", folder=folder)

    yield of("Flux dev", "Flux.1 D", _flux("", guided=True), "flux1-dev")
    yield of("Flux schnell", "Flux.1 S", _flux("model.diffusion_model.", guided=False))
    yield of(
        "Chroma",
        "Chroma",
        _flux("", guided=False, extra=("distilled_guidance_layer.in_proj.weight",)),
    )
    yield of("Flux.2", "Flux.2 D", {
        "img_in.weight": (6144, 128), "single_stream_modulation.lin.weight": (6144, 6144),
        "double_blocks.0.img_attn.norm.key_norm.scale": (128,),
    })  # fmt: skip
    for name, blocks, table in (
        ("SD 3", 24, 36_864),
        ("SD 3.5 Medium", 24, 147_456),
        ("SD 3.5 Large", 38, 36_864),
    ):
        stems = {
            f"joint_blocks.{n}.context_block.adaLN_modulation.1.weight": (9216, 1536)
            for n in range(blocks)
        }
        yield of(name, name, stems | {"pos_embed": (1, table, 1536)})
    for name, width, channels in (
        ("Wan Video 1.3B t2v", 1536, 16), ("Wan Video 2.2 TI2V-5B", 3072, 48),
        ("Wan Video 14B t2v", 5120, 16),
    ):  # fmt: skip
        yield of(name, name, {
            "head.modulation": (1, 2, width), "patch_embedding.weight": (width, channels, 1, 2, 2),
            "blocks.0.cross_attn.k.weight": (width, width),
        })  # fmt: skip
    yield of(
        "Hunyuan Video",
        "Hunyuan Video",
        _flux("", guided=True, extra=("txt_in.individual_token_refiner.blocks.0.norm1.weight",)),
    )
    yield of(
        "LTX",
        "LTXV",
        {"patchify_proj.weight": (2048, 128), "transformer_blocks.27.scale_shift_table": (6, 2048)},
    )
    yield of(
        "LTX 2",
        "LTXV2",
        {
            "patchify_proj.weight": (4096, 128),
            "av_ca_a2v_gate_adaln_single.linear.weight": (4096, 4096),
        },
    )
    yield of("Qwen-Image", "Qwen", {
        "txt_norm.weight": (3584,), "img_in.weight": (3072, 64),
        "transformer_blocks.0.attn.to_q.weight": (3072, 3072),
    })  # fmt: skip
    yield of("Z-Image", "ZImageBase", {
        "context_refiner.0.attention.out.weight": (3840, 3840),
        "layers.0.adaLN_modulation.0.weight": (15360, 256),
        "layers.0.attention.out.weight": (3840, 3840), "cap_embedder.0.weight": (2560,),
    })  # fmt: skip
    yield of("Lumina 2", "Lumina", {
        "context_refiner.0.attention.out.weight": (2304, 2304),
        "layers.0.adaLN_modulation.1.weight": (9216, 1024),
        "layers.0.attention.out.weight": (2304, 2304), "cap_embedder.0.weight": (2304,),
    })  # fmt: skip
    yield of(
        "HiDream",
        "HiDream",
        {
            "double_stream_blocks.0.block.attn1.to_k.weight": (2560, 2560),
            "caption_projection.0.linear.weight": (2560, 4096),
        },
    )
    yield of(
        "AuraFlow",
        "AuraFlow",
        {"double_layers.0.attn.w1q.weight": (3072, 3072), "cond_seq_linear.weight": (3072, 2048)},
    )
    yield of(
        "PixArt",
        "PixArt a",
        {"t_block.1.weight": (6912, 1152), "blocks.0.cross_attn.kv_linear.weight": (2304, 1152)},
    )
    yield of(
        "Cascade",
        "Stable Cascade",
        {
            "clip_txt_mapper.weight": (2048, 1280),
            "down_blocks.0.0.channelwise.0.weight": (8192, 2048),
        },
    )
    yield of("SDXL U-Net", "SDXL 1.0", _unet("", 2048, blocks=(4, 5)))
    yield of("SD 1 of diffusers", "SD 1.5", {
        "conv_in.weight": (320, 4, 3, 3), "conv_out.weight": (4, 320, 3, 3),
        "time_embedding.linear_1.weight": (1280, 320),
        "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight": (320, 768),
    })  # fmt: skip


def _adapters(rng: random.Random) -> Iterator[Sample]:
    rank = rng.choice([4, 8, 16, 32, 64, 128])

    def of(
        kind: str, base: str, tensors: dict[str, Shape], type_: str = "LORA",
        metadata: dict[str, str] | None = None, name: str = "my_style_v2",
    ) -> Sample:  # fmt: skip
        return Sample(kind, type_, base, tensors, metadata or {}, f"{name}.safetensors", "loras")

    for base, width, inner, version in (
        ("SD 1.5", 768, 1, "sd_v1"), ("SD 2.1", 1024, 1, "sd_v2"),
        ("SDXL 1.0", 2048, 4, "sdxl_base_v1-0"),
    ):  # fmt: skip
        tensors = _pairs(_unet_stems(width, inner), rank, "kohya")
        yield of(f"{base} LoRA, kohya", base, tensors, metadata={
            "ss_network_module": "networks.lora", "ss_base_model_version": version,
            "ss_network_dim": str(rank),
        })  # fmt: skip
        yield of(f"{base} LoRA, bare", base, tensors)
        yield of(f"{base} LoRA, PEFT", base, _pairs(_unet_stems(width, inner), rank, "unet"))
    sdxl = _pairs(_unet_stems(2048, 4), rank, "kohya")
    yield of("Pony LoRA by its parent", "Pony", sdxl, metadata={
        "ss_network_module": "networks.lora", "ss_base_model_version": "sdxl_base_v1-0",
        "ss_sd_model_name": "ponyDiffusionV6XL_v6StartWithThisOne.safetensors",
    })  # fmt: skip
    yield of("Illustrious LoRA by its name", "Illustrious", sdxl, name="girl_illustriousXL_v1")
    for dialect in ("kohya", "comfy"):
        yield of(
            f"Flux LoRA, {dialect}",
            "Flux.1 D",
            _pairs(_block_stems(19, _FLUX_PARTS, 3072), rank, dialect),
        )
    yield of(
        "Flux LoRA, diffusers",
        "Flux.1 D",
        _pairs(
            _block_stems(
                38,
                ("single_transformer_blocks.{}.attn.to_q", "transformer_blocks.{}.attn.to_k"),
                3072,
            ),
            rank,
            "transformer",
        ),
    )
    yield of("Wan LoRA", "Wan Video", _pairs(_block_stems(30, _WAN_PARTS, 5120), rank, "comfy"))
    yield of(
        "Hunyuan LoRA", "Hunyuan Video", _pairs(_block_stems(20, _FLUX_PARTS, 3072), rank, "kohya")
    )
    yield of("Qwen LoRA", "Qwen", _pairs(_block_stems(60, _QWEN_PARTS, 3072), rank, "comfy"))
    yield of("SD 3 LoRA", "SD 3.5", _pairs(_block_stems(24, _SD3_PARTS, 1536), rank, "kohya"))
    yield of(
        "Z-Image LoRA", "ZImageBase", _pairs(_block_stems(30, _ZIMAGE_PARTS, 3840), rank, "comfy")
    )
    stem = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
    convolution = {
        "lora_unet_down_blocks_0_resnets_0_conv1.lora_down.weight": (rank, 320, 3, 3),
        "lora_unet_down_blocks_0_resnets_0_conv1.lora_up.weight": (320, rank, 1, 1),
    }
    yield of("LoCon", "SD 1.5", _pairs(_unet_stems(768, 1), rank, "kohya") | convolution, "LoCon")
    yield of("LoHa", "SD 1.5", {
        f"{stem}.{part}": (rank, 768) if part.endswith("b") else (640, rank)
        for part in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
    }, "LoHa")  # fmt: skip
    yield of(
        "LoKr",
        "SDXL 1.0",
        {
            f"{stem}.lokr_w1": (8, 8),
            f"{stem}.lokr_w2_a": (80, rank),
            f"{stem}.lokr_w2_b": (rank, 2048),
        },
        "LoKr",
    )
    yield of("DoRA", "SDXL 1.0", sdxl | {f"{stem}.dora_scale": (1, 2048)}, "DoRA")
    yield of("OFT", "SDXL 1.0", {
        f"lora_unet_input_blocks_4_1_transformer_blocks_{n}_attn1_to_k.oft_blocks": (4, 160, 160)
        for n in range(3)
    }, "OFT")  # fmt: skip


def _parts(rng: random.Random) -> Iterator[Sample]:
    rows = rng.randrange(1, 40)
    yield Sample("SD VAE", "VAE", None, _vae(""), name="kl-f8.safetensors", folder="vae")
    yield Sample("Flux VAE", "VAE", "Flux.1 D", _vae("", 16), name="ae.safetensors", folder="vae")
    yield Sample(
        "Wan VAE",
        "VAE",
        "Wan Video",
        {"decoder.middle.0.residual.0.gamma": (384, 1, 1, 1)},
        name="wan_2.1_vae.safetensors",
    )
    yield Sample(
        "TAESD",
        "VAEApprox",
        None,
        {"taesd_decoder.1.weight": (64, 4, 3, 3)},
        name="taesd.safetensors",
    )
    yield Sample(
        "embedding of SD 1",
        "TextualInversion",
        "SD 1.5",
        {"emb_params": (rows, 768)},
        name="bad-hands-5.safetensors",
        folder="embeddings",
    )
    yield Sample(
        "embedding of SDXL",
        "TextualInversion",
        "SDXL 1.0",
        {"clip_l": (rows, 768), "clip_g": (rows, 1280)},
        name="neg.safetensors",
        folder="embeddings",
    )
    yield Sample(
        "ControlNet of SD 1",
        "Controlnet",
        "SD 1.5",
        {f"control_model.{name}": shape for name, shape in _unet("", 768, blocks=(1, 2)).items()}
        | {"control_model.zero_convs.0.0.weight": (320, 320, 1, 1)},
        name="control_v11p_canny.safetensors",
        folder="controlnet",
    )
    yield Sample(
        "ControlNet of diffusers",
        "Controlnet",
        "SDXL 1.0",
        {
            "controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3),
            "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight": (640, 2048),
        },
        name="diffusion_pytorch_model.safetensors",
    )
    yield Sample(
        "Control-LoRA",
        "ControlLoRA",
        None,
        {"lora_controlnet": (0,), "input_blocks.0.0.weight": (320, 4, 3, 3)},
        name="control-lora-canny.safetensors",
    )
    yield Sample(
        "LLLite",
        "ControlNetLLLite",
        None,
        {"lllite_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.down.0.weight": (64, 640)},
        name="blur.safetensors",
    )
    yield Sample(
        "IP-Adapter",
        "IPAdapter",
        None,
        {"image_proj.proj.weight": (3072, 1024), "ip_adapter.1.to_k_ip.weight": (320, 768)},
        name="plus.safetensors",
    )
    yield Sample(
        "T2I-adapter",
        "T2IAdapter",
        None,
        {"adapter.body.0.resnets.0.block1.weight": (320, 320, 3, 3)},
        name="canny.safetensors",
    )
    yield Sample(
        "motion module",
        "MotionModule",
        None,
        {
            "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0"
            ".attention_blocks.0.pos_encoder.pe": (
                1,
                32,
                320,
            )
        },
        name="mm_sd_v15_v2.safetensors",
    )
    yield Sample(
        "Redux",
        "StyleModel",
        None,
        {"redux_up.weight": (12288, 1152), "redux_down.weight": (4096, 12288)},
        name="redux.safetensors",
    )
    yield Sample(
        "CLIP text",
        "CLIP",
        "CLIP",
        {f"text_model.encoder.layers.{n}.mlp.fc1.weight": (3072, 768) for n in range(12)},
        name="clip_l.safetensors",
        folder="text_encoders",
    )
    yield Sample(
        "CLIP vision",
        "CLIPVision",
        "CLIP",
        {f"vision_model.encoder.layers.{n}.mlp.fc1.weight": (5120, 1280) for n in range(4)},
        name="h14.safetensors",
        folder="clip_vision",
    )
    yield Sample(
        "T5 encoder",
        "TextEncoder",
        "T5",
        {
            "encoder.block.0.layer.0.SelfAttention.k.weight": (4096, 4096),
            "encoder.block.23.layer.1.DenseReluDense.wi_1.weight": (10240, 4096),
        },
        name="t5xxl_fp16.safetensors",
        folder="text_encoders",
    )
    yield Sample(
        "ESRGAN",
        "Upscaler",
        None,
        {"model.1.sub.0.RDB1.conv1.0.weight": (32, 64, 3, 3), "model.0.weight": (64, 3, 3, 3)},
        name="4x-thing.safetensors",
        folder="upscale_models",
    )
    yield Sample(
        "SwinIR",
        "Upscaler",
        None,
        {
            "layers.0.residual_group.blocks.0.norm1.weight": (180,),
            "layers.0.residual_group.blocks.0.attn.relative_position_index": (64, 64),
        },
        name="s.safetensors",
    )
    yield Sample(
        "language model",
        "LLM",
        "Llama",
        {
            "model.embed_tokens.weight": (32000, 4096),
            "model.layers.0.self_attn.q_proj.weight": (4096, 4096),
            "model.layers.0.post_attention_layernorm.weight": (4096,),
        },
        name="model.safetensors",
    )
    yield Sample(
        "BERT",
        "MaskedLM",
        None,
        {"bert.encoder.layer.0.attention.self.query.weight": (768, 768)},
        name="model.safetensors",
    )


MAKERS: tuple[Callable[[random.Random], Iterator[Sample]], ...] = (
    _checkpoints, _diffusion_models, _adapters, _parts,
)  # fmt: skip


def samples(seed: int) -> list[Sample]:
    """One of every kind; seeds differ in ranks, names and folders."""
    rng = random.Random(seed)
    return [sample for make in MAKERS for sample in make(rng)]
