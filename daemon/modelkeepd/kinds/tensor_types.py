"""What kind of file a file is, by the names and shapes of its tensors. Pure.

The rules are those of the programs that load such files. The first that holds wins; flavors of
LoRA come first, because nothing else has their names.
"""

from collections.abc import Callable, Iterator

from modelkeepd.kinds.clues import Clue
from modelkeepd.kinds.tensors import Tensors

Test = Callable[[Tensors], bool]

_LORA_ENDS = (
    *("lora_up.weight", "lora_down.weight", "lora_A.weight", "lora_B.weight"),
    *("lora_A.default.weight", "lora_B.default.weight", "_lora.up.weight", "lora.up.weight"),
    *("_lora.down.weight", "lora.down.weight", "lora_linear_layer.up.weight"),
    "lora_linear_layer.down.weight",
)


def is_lora(t: Tensors) -> bool:
    """Pairs of low rank."""
    return t.ends(*_LORA_ENDS)


def is_adapter(t: Tensors) -> bool:
    """Changes to another model, of any flavor."""
    return any(test(t) for _, _, test, _ in _ADAPTERS)


def _on_convolutions(t: Tensors) -> bool:
    return t.ends("lora_mid.weight") or any(
        side > 1 for side in t.dims(r"lora_(down|A)_weight$|lora_down_weight$", 2)
    )


def is_diffusion(t: Tensors) -> bool:
    """The network that removes noise, of any make."""
    return (
        t.begins("input_blocks.", "joint_blocks.", "double_blocks.", "single_blocks.")
        or t.has("conv_in.weight", "conv_out.weight", "time_embedding.linear_1.weight")
        or t.has("head.modulation")
        or t.has("patchify_proj.weight")
        or t.has("txt_norm.weight", "img_in.weight")
        or t.has("clip_txt_mapper.weight")
        or t.begins("cap_embedder.", "context_refiner.", "double_layers.", "double_stream_blocks.")
        or t.begins("single_transformer_blocks.", "transformer_blocks.0.attn", "t_block.1.")
        or t.holds("blocks.0.attn.qkv_x", "llm_adapter.", "txtfusion.", "text_fusion.")
        or t.begins("down_blocks.1.0.channelwise.", "blocks.block1", "genre_embedder.")
        or t.has("rotary_pos_emb.inv_freq")
    )


def _has_vae(t: Tensors) -> bool:
    return t.begins("first_stage_model.", "vae.")


def _has_encoder(t: Tensors) -> bool:
    return t.begins("cond_stage_model.", "conditioner.", "text_encoders.", "text_encoder.")


def _is_controlnet(t: Tensors) -> bool:
    return (
        t.has("control_model.zero_convs.0.0.weight")
        or t.has("zero_convs.0.0.weight")
        or t.has("controlnet_cond_embedding.conv_in.weight")
        or t.has("after_proj_list.18.bias")
        or t.begins("controlnet_blocks.", "control_layers.", "control_all_x_embedder.")
        or t.begins("controlnet_x_embedder.")
    )


def _is_vae(t: Tensors) -> bool:
    return not is_diffusion(t) and (
        t.has("decoder.conv_in.weight")
        or t.has("first_stage_model.decoder.conv_in.weight")
        or t.has("decoder.conv_in.conv.weight")
        or t.has("decoder.middle.0.residual.0.gamma")
        or t.has("decoder.mid.block_1.mix_factor")
        or t.has("vquantizer.codebook.weight")
    )


def _is_embedding(t: Tensors) -> bool:
    if t.has("emb_params") or t.holds("string_to_param"):
        return True
    if t.has("clip_l", "clip_g") and t.count <= 3:
        return True
    # one table of vectors, named for its word: no layer of anything
    return t.count == 1 and any(
        "." not in name and len(shape) in (1, 2) and shape[-1] in (768, 1024, 1280)
        for name, shape in t.shapes.items()
        if shape is not None
    )


def _is_upscaler(t: Tensors) -> bool:
    return (
        t.has("model.1.sub.0.RDB1.conv1.0.weight")
        or t.has("body.0.rdb1.conv1.weight")
        or t.has("RRDB_trunk.0.RDB1.conv1.weight")
        or (t.has("body.0.weight", "body.1.weight") and not t.holds("attn"))
        or t.has("layers.0.residual_group.blocks.0.norm1.weight")
        or t.has("relative_position_index_SA")
        or t.has("before_RG.1.weight")
        or t.begins("layers.0.swin1.", "feats.1.lk.")
        or t.has("block_1.c1_r.sk.weight")
        or t.has("residual_layer.0.residual_layer.0.layer.0.fn.0.weight")
        or t.has("unet1.conv1.conv.0.weight")
    )


_ADAPTERS: tuple[tuple[str, float, Test, str], ...] = (
    ("ControlLoRA", 0.96, lambda t: t.has("lora_controlnet"), "it has the mark lora_controlnet"),
    ("ControlNetLLLite", 0.96, lambda t: t.begins("lllite_"), "its tensors begin with lllite_"),
    ("LoHa", 0.95, lambda t: t.ends("hada_w1_a"), "its tensors are Hadamard pairs (hada_w1_a)"),
    (
        "LoKr",
        0.95,
        lambda t: t.ends("lokr_w1", "lokr_w1_a", "lokr_w2", "lokr_w2_a"),
        "its tensors are Kronecker factors (lokr_w1)",
    ),
    ("OFT", 0.95, lambda t: t.ends("oft_blocks", "oft_diag"), "its tensors are rotations (oft_)"),
    (
        "GLoRA",
        0.93,
        lambda t: t.ends(".a1.weight") and t.ends(".b2.weight"),
        "its tensors are a1, a2, b1 and b2 (GLoRA)",
    ),
    ("IA3", 0.93, lambda t: t.ends(".on_input"), "its tensors say on which side they act (IA3)"),
    ("DoRA", 0.95, lambda t: t.ends("dora_scale"), "it has magnitudes of its own (dora_scale)"),
    (
        "LoCon",
        0.93,
        lambda t: is_lora(t) and _on_convolutions(t),
        "its low-rank pairs change convolutions too",
    ),
    ("LORA", 0.96, is_lora, "its tensors are low-rank pairs (lora_up and lora_down, A and B)"),
    (
        "FullDiff",
        0.85,
        lambda t: t.ends(".diff", ".diff_b"),
        "its tensors are whole differences (.diff)",
    ),
)

_RULES: tuple[tuple[str, float, Test, str], ...] = (
    ("Controlnet", 0.95, _is_controlnet, "it has a ControlNet's layers"),
    (
        "T2IAdapter",
        0.9,
        lambda t: (
            t.has("body.0.in_conv.weight")
            or t.has("conv_in.weight", "body.0.block2.weight")
            or t.has("adapter.body.0.resnets.0.block1.weight")
        ),
        "its layers are those of a T2I-adapter",
    ),
    (
        "IPAdapter",
        0.95,
        lambda t: (
            (t.begins("image_proj.") and t.begins("ip_adapter."))
            or t.begins("ip_adapter_proj_model.")
        ),
        "it has an IP-Adapter's projection",
    ),
    (
        "MotionModule",
        0.95,
        lambda t: t.finds(r"motion_modules_0_temporal_transformer\S*pos_encoder_pe"),
        "it has motion modules",
    ),
    (
        "Checkpoint",
        0.96,
        lambda t: is_diffusion(t) and (_has_vae(t) or _has_encoder(t)),
        "it holds a diffusion model together with a VAE or a text encoder",
    ),
    ("Upscaler", 0.92, _is_upscaler, "its layers are an upscaler's"),
    (
        "FaceRestoration",
        0.92,
        lambda t: (
            t.has("stylegan_decoder.style_mlp.1.weight")
            or t.has("quantize.embedding.weight", "encoder.down.0.block.0.norm1.weight")
        ),
        "its layers are those of a restorer of faces",
    ),
    (
        "VAEApprox",
        0.9,
        lambda t: t.begins("taesd_decoder.", "taesd_encoder."),
        "its layers are those of a small VAE for previews",
    ),
    ("VAE", 0.93, _is_vae, "it has a VAE's decoder and no diffusion model"),
    ("StyleModel", 0.9, lambda t: t.has("redux_up.weight"), "it has a Redux projection"),
    ("UNet", 0.93, is_diffusion, "it is a diffusion model without VAE and text encoder"),
    (
        "CLIPVision",
        0.85,
        lambda t: t.begins("vision_model.", "visual.") and not t.begins("text_model."),
        "it reads pictures (vision_model)",
    ),
    (
        "TextEncoder",
        0.88,
        lambda t: (
            t.begins("encoder.block.0.layer.0.SelfAttention.") and not t.begins("decoder.block.")
        ),
        "it is a T5 encoder without a decoder",
    ),
    (
        "CLIP",
        0.85,
        lambda t: t.begins("text_model.encoder.layers.", "transformer.resblocks.", "resblocks."),
        "it has CLIP's text layers",
    ),
    ("TextualInversion", 0.9, _is_embedding, "it holds one table of vectors"),
    (
        "LLM",
        0.8,
        lambda t: t.finds(r"\n(model_)?layers_0_self_attn") and t.holds("embed_tokens"),
        "its layers are a language model's",
    ),
    (
        "MaskedLM",
        0.6,
        lambda t: t.holds("encoder.layer.0.attention.self.query"),
        "its layers are BERT's",
    ),
)


def type_clues(t: Tensors) -> Iterator[Clue]:
    """What the tensors say of the type: at most one clue, the first rule that holds."""
    for type_, weight, test, reason in (*_ADAPTERS, *_RULES):
        if test(t):
            yield Clue("type", type_, weight, reason)
            return
