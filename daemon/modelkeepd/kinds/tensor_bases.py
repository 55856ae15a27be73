"""Of which family a model or an adapter is, by the names and shapes of its tensors. Pure.

Widths and layers tell architectures apart; what was only trained further (Pony, Illustrious,
Turbo, Lightning) looks like what it was trained from, so that these rules name families.
"""

from collections.abc import Iterator

from modelkeepd.kinds.clues import Clue
from modelkeepd.kinds.tensor_types import is_adapter, is_diffusion
from modelkeepd.kinds.tensors import Tensors

_CROSS_WIDTHS = {768: "SD 1", 1024: "SD 2", 2048: "SDXL", 1280: "SDXL"}
_TO_K = r"attn2_to_k(_lora)?_(lora_)?(down|A|linear_layer_down)(_default)?_weight$"
_HADA_TO_K = r"attn2_to_k_(hada_w1_b|lokr_w2_b)$"


def base_clues(t: Tensors) -> Iterator[Clue]:
    """What the tensors say of the base model."""
    if is_adapter(t):
        yield from _adapter(t)
    elif is_diffusion(t):
        yield from _diffusion(t)
    else:
        yield from _part(t)


def _family(name: str, weight: float, reason: str) -> Clue:
    return Clue("family", name, weight, reason)


def _base(name: str, weight: float, reason: str) -> Clue:
    return Clue("base", name, weight, reason)


# --- whole diffusion models ---------------------------------------------------------------------


def _diffusion(t: Tensors) -> Iterator[Clue]:
    for test in (_flux, _stable_diffusion_3, _video, _transformer, _unet, _cascade):
        found = list(test(t))
        if found:
            yield from found
            return


def _flux(t: Tensors) -> Iterator[Clue]:
    if t.has("single_stream_modulation.lin.weight"):
        yield _family("Flux.2", 0.95, "it has Flux.2's shared modulation")
        return
    if not t.holds("double_blocks.0.img_attn.norm.key_norm.scale") and not (
        t.begins("single_transformer_blocks.") and t.begins("transformer_blocks.")
    ):
        return
    if t.holds("distilled_guidance_layer."):
        yield _base("Chroma", 0.95, "it has Chroma's distilled guidance")
    elif t.holds("txt_in.individual_token_refiner"):
        yield _base("Hunyuan Video", 0.93, "it has HunyuanVideo's token refiner")
    else:
        yield _family("Flux.1", 0.95, "its blocks are Flux's")
        guided = t.begins("guidance_in.", "time_text_embed.guidance_embedder.")
        if guided:
            yield _base("Flux.1 D", 0.7, "it takes guidance, as dev does")
        elif t.count > 200:
            yield _base("Flux.1 S", 0.85, "it takes no guidance, as schnell")


def _stable_diffusion_3(t: Tensors) -> Iterator[Clue]:
    if not t.begins("joint_blocks.0.context_block."):
        return
    yield _family("SD 3", 0.95, "its blocks are Stable Diffusion 3's")
    positions = t.dim("pos_embed", 1)
    width = t.dim("pos_embed", 2)
    if t.begins("joint_blocks.37."):
        yield _base("SD 3.5 Large", 0.9, "it has 38 blocks")
    elif positions == 36_864 or (width == 1536 and positions == 36_864):
        yield _base("SD 3", 0.9, "its position table is that of SD 3 medium")
    elif positions == 147_456:
        yield _base("SD 3.5 Medium", 0.9, "its position table is that of SD 3.5 medium")


def _video(t: Tensors) -> Iterator[Clue]:
    if t.has("head.modulation"):
        yield _family("Wan", 0.95, "it has Wan's head")
        width, channels = t.dim("patch_embedding.weight", 0), t.dim("patch_embedding.weight", 1)
        if width == 1536:
            yield _base("Wan Video 1.3B t2v", 0.85, "its width is that of 1.3 billion parameters")
        elif width == 3072:
            yield _base("Wan Video 2.2 TI2V-5B", 0.9, "its width is that of 5 billion parameters")
        elif width == 5120 and channels == 16:
            yield _base("Wan Video 14B t2v", 0.55, "14 billion parameters, from text")
        elif width == 5120 and channels == 36:
            yield _base("Wan Video 14B i2v 480p", 0.4, "14 billion parameters, from pictures")
    elif t.has("patchify_proj.weight"):
        yield _family("LTX", 0.95, "it has LTX's patch projection")
        sound = t.holds("av_ca_a2v_gate_adaln_single.", "audio_vae.")
        yield _base("LTXV2" if sound else "LTXV", 0.85, "with sound" if sound else "without sound")
    elif t.holds("blocks.0.attn.qkv_x") or t.begins("t5_yproj."):
        yield _base("Mochi", 0.9, "its attention is Mochi's")
    elif t.holds("llm_adapter."):
        yield _base("Anima", 0.85, "it has Anima's adapter for a language model")
    elif t.holds("txtfusion.", "text_fusion."):
        yield _base("Krea 2", 0.8, "it fuses text as Krea 2 does")
    elif t.begins("blocks.block1") or t.has("net.blocks.0.self_attn.q_proj.weight"):
        yield _base("Cosmos", 0.85, "its blocks are Cosmos's")


def _transformer(t: Tensors) -> Iterator[Clue]:
    if t.has("txt_norm.weight") and t.begins("transformer_blocks."):
        yield _family("Qwen Image", 0.95, "it has Qwen-Image's text norm")
    elif t.begins("double_stream_blocks."):
        yield _base("HiDream", 0.92, "its blocks are HiDream's")
    elif t.begins("double_layers.") and t.begins("cond_seq_linear."):
        yield _base("AuraFlow", 0.92, "its layers are AuraFlow's")
    elif t.holds("blocks.0.cross_attn.kv_linear") and not t.has("t_block.1.weight"):
        yield _base("Sana", 0.8, "its attention is Sana's")
    elif t.has("t_block.1.weight"):
        yield _family("PixArt", 0.92, "its time block is PixArt's")
    elif t.begins("mlp_t5."):
        yield _base("Hunyuan 1", 0.92, "it reads T5 as HunyuanDiT does")
    elif t.begins("context_refiner.") and t.holds("layers.0.adaLN_modulation"):
        # the two share their code; their widths differ
        width = t.dim("layers.0.attention.out.weight", 0)
        if width == 3840:
            yield _family("Z-Image", 0.93, "its width is Z-Image's")
        elif width is None:
            yield _family("Z-Image", 0.6, "its refiner is Z-Image's or Lumina's")
            yield _family("Lumina", 0.5, "its refiner is Z-Image's or Lumina's")
        else:
            yield _family("Lumina", 0.9, "its refiner is Lumina's")
    elif t.begins("cap_embedder."):
        yield _family("Lumina", 0.85, "it reads captions as Lumina does")
    elif t.begins("genre_embedder."):
        yield _base("ACE Audio", 0.92, "it knows genres")
    elif t.has("rotary_pos_emb.inv_freq"):
        yield _base("Stable Audio", 0.85, "its positions are Stable Audio's")


def _unet(t: Tensors) -> Iterator[Clue]:
    widths = set(t.dims(r"(input|down)_blocks?_\S*attn2_to_k_weight$", -1))
    width = max(widths, default=None)
    first = t.dim("input_blocks.0.0.weight", 1)
    if t.has("edm_mean"):
        yield _base("Playground v2", 0.92, "it has Playground's mean")
    if width is None:
        # without shapes the encoders tell
        if t.begins("conditioner.embedders."):
            yield _family("SDXL", 0.9, "its text encoders are SDXL's")
        elif t.begins("cond_stage_model.model."):
            yield _family("SD 2", 0.9, "its text encoder is Stable Diffusion 2's")
        elif t.begins("cond_stage_model.transformer."):
            yield _family("SD 1", 0.9, "its text encoder is Stable Diffusion 1's")
        elif t.begins("add_embedding.", "label_emb."):
            yield _family("SDXL", 0.8, "it is told sizes, as SDXL is")
        return
    family = _CROSS_WIDTHS.get(width)
    if family is not None:
        kind = {5: " (depth)", 8: " (pix2pix)", 9: " (inpainting)", 7: " (upscaler)"}
        yield _family(
            family, 0.95, f"its cross attention is {width} wide{kind.get(first or 4, '')}"
        )


def _cascade(t: Tensors) -> Iterator[Clue]:
    if t.has("clip_txt_mapper.weight") or t.begins("down_blocks.1.0.channelwise."):
        yield _family("Cascade", 0.93, "it has Cascade's mapper")


# --- adapters -----------------------------------------------------------------------------------


def _adapter(t: Tensors) -> Iterator[Clue]:
    for test in (_adapter_of_transformer, _adapter_of_unet):
        found = list(test(t))
        if found:
            yield from found
            return


def _adapter_of_transformer(t: Tensors) -> Iterator[Clue]:
    if t.holds("distilled_guidance_layer"):
        yield _base("Chroma", 0.9, "it changes Chroma's distilled guidance")
    elif t.finds(r"double_blocks_\d") or t.finds(r"single_transformer_blocks_\d"):
        if t.finds(r"double_blocks_19_|single_blocks_3[89]_"):
            yield _base("Hunyuan Video", 0.85, "it changes blocks that only HunyuanVideo has")
            return
        widths = set(t.dims(r"(lora_(down|A)(_default)?_weight|hada_w1_b|lokr_w2_b)$", -1))
        if widths & {7680, 12_288, 15_360, 18_432} and 3072 not in widths:
            yield _family("Flux.2", 0.75, "its widths are Flux.2's")
        else:
            yield _family("Flux.1", 0.92, "it changes Flux's blocks")
    elif t.finds(r"joint_blocks_\d"):
        yield _family("SD 3", 0.92, "it changes Stable Diffusion 3's blocks")
    elif t.finds(r"(?<!transformer_)blocks_\d+_cross_attn_[kqvo]_"):
        yield _family("Wan", 0.9, "it changes Wan's cross attention")
    elif t.finds(r"transformer_blocks_\d+_(img_mlp|txt_mlp|img_mod|txt_mod)"):
        yield _family("Qwen Image", 0.88, "it changes Qwen-Image's two streams")
    elif t.finds(r"transformer_blocks_\d+_attn_add_[kqv]_proj"):
        # diffusers calls SD3's and Qwen-Image's blocks alike: the latter has sixty
        if t.finds(r"transformer_blocks_(3[89]|[45]\d)_"):
            yield _family("Qwen Image", 0.85, "it changes blocks that only Qwen-Image has")
        else:
            yield _family("SD 3", 0.75, "it changes Stable Diffusion 3's attention")
    elif t.finds(r"layers_\d+_attention_(to_[kqv]|qkv|out)"):
        if 3840 in set(t.dims(r"lora_(down|A)(_default)?_weight$", -1)):
            yield _family("Z-Image", 0.88, "its width is Z-Image's")
        else:
            yield _family("Lumina", 0.7, "it changes Lumina's layers")
    elif t.finds(r"(?<!down_blocks)(?<!up_blocks)[\n_]transformer_blocks_\d+_attn1_to_[kqv]") and (
        not t.finds(r"(down|up|mid|input|output)_blocks?_")
    ):
        yield _family("LTX", 0.75, "it changes LTX's blocks")
    elif t.finds(r"layers_\d+_self_attn_[kqv]_proj") and not t.finds(
        r"text_(model|encoder)|lora_te"
    ):
        yield Clue("family", "Llama", 0.4, "it changes a language model's attention")


def _adapter_of_unet(t: Tensors) -> Iterator[Clue]:
    if t.begins("lora_prior_unet_"):
        yield _family("Cascade", 0.85, "it changes Cascade's prior")
        return
    widths = {*t.dims(_TO_K, -1), *t.dims(_HADA_TO_K, -1)} & _CROSS_WIDTHS.keys()
    if widths:
        width = max(widths)
        yield _family(_CROSS_WIDTHS[width], 0.94, f"it changes cross attention {width} wide")
        return
    if t.begins("lora_te1_") or t.begins("lora_te2_"):
        yield _family("SDXL", 0.9, "it changes two text encoders")
    elif t.finds(r"attentions_\d_transformer_blocks_[2-9]_") or t.finds(
        r"(input|output)_blocks_\d+_1_transformer_blocks_[2-9]_"
    ):
        yield _family("SDXL", 0.9, "it has several transformer blocks in one attention block")
    elif t.begins("lora_te_", "text_encoder."):
        text_widths = set(t.dims(r"self_attn_[kqv]_proj\S*lora_(down|A)\S*weight$", -1))
        if text_widths == {768}:
            yield _family("SD 1", 0.75, "it changes a text encoder 768 wide")
        elif text_widths == {1024}:
            yield _family("SD 2", 0.8, "it changes a text encoder 1024 wide")
        elif text_widths >= {768, 1280}:
            yield _family("SDXL", 0.85, "it changes text encoders 768 and 1280 wide")
        else:
            yield _family("SD 1", 0.5, "it changes one text encoder")
    elif t.finds(r"(down|up|mid)_blocks?_\d?_?attentions"):
        yield _family("SD 1", 0.4, "it changes a U-Net of unknown width")


# --- parts --------------------------------------------------------------------------------------


def _part(t: Tensors) -> Iterator[Clue]:
    alone = [name for name in t.shapes if t.count == 1 and "." not in name]
    for name in ("emb_params", "clip_l", *alone):
        width = t.dim(name, -1)
        if t.has("clip_l", "clip_g"):
            yield _family("SDXL", 0.93, "its vectors are for both of SDXL's encoders")
            return
        if width in (768, 1024) and t.count <= 3:
            yield _family("SD 1" if width == 768 else "SD 2", 0.9, f"its vectors are {width} wide")
            return
    for name in ("first_stage_model.decoder.conv_in.weight", "decoder.conv_in.weight"):
        channels = t.dim(name, 1)
        if channels == 16:
            yield _family("Flux.1", 0.5, "its latents have 16 channels")
        elif channels == 4:
            yield _family("SD 1", 0.45, "its latents have 4 channels: SD 1 or SDXL")
            yield _family("SDXL", 0.45, "its latents have 4 channels: SD 1 or SDXL")
        if channels is not None:
            return
    if t.has("decoder.middle.0.residual.0.gamma"):
        yield _family("Wan", 0.6, "its decoder is Wan's (and Qwen-Image's)")
    elif t.begins("encoder.block.0.layer.0.SelfAttention."):
        yield _base("T5", 0.9, "its blocks are T5's")
    elif t.begins("text_model.encoder.layers.", "vision_model.", "visual."):
        yield _base("CLIP", 0.75, "its layers are CLIP's")
    elif t.ends("zero_convs.0.0.weight") or t.begins("controlnet_cond_embedding."):
        yield from _unet(t)
    elif t.finds(r"\n(model_)?layers_0_self_attn"):
        if t.holds("post_feedforward_layernorm"):
            yield _family("Gemma", 0.7, "its layers are Gemma's")
        elif t.holds("layers.0.self_attn.k_proj.bias"):
            yield _family("Qwen LLM", 0.7, "its keys have a bias, as Qwen's")
        else:
            yield _family("Llama", 0.5, "its layers are Llama's, or made like them")
