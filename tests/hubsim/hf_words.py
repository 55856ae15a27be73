"""The vocabulary of the synthetic Hugging Face catalog: plain data.

Organizations are invented; base models, licenses, libraries and tasks are the real ones, because
what reads a catalog has to know them.
"""

ORGS = (
    "openloom", "northlight-ai", "tinker-lab", "kitsune-works", "moonlit-research", "paperlantern",
    "deepharbor", "greenfield-nlp", "rivermouth", "atelier-noir", "hachiko-ai", "slowtrain",
)  # fmt: skip

# (id, family, the class its pipelines have)
IMAGE_BASES = (
    ("black-forest-labs/FLUX.1-dev", "flux", "FluxPipeline"),
    ("stabilityai/stable-diffusion-xl-base-1.0", "sdxl", "StableDiffusionXLPipeline"),
    ("runwayml/stable-diffusion-v1-5", "sd15", "StableDiffusionPipeline"),
    ("Qwen/Qwen-Image", "qwen-image", "QwenImagePipeline"),
    ("Tongyi-MAI/Z-Image-Turbo", "z-image", "ZImagePipeline"),
    ("stabilityai/stable-diffusion-3.5-large", "sd35", "StableDiffusion3Pipeline"),
    ("Wan-AI/Wan2.1-T2V-14B", "wan21", "WanPipeline"),
    ("John6666/illustrious-xl", "illustrious", "StableDiffusionXLPipeline"),
)
# (id, model_type, architecture, name of its kin)
TEXT_BASES = (
    ("meta-llama/Llama-3.1-8B-Instruct", "llama", "LlamaForCausalLM", "Llama-3.1-8B"),
    ("Qwen/Qwen2.5-7B-Instruct", "qwen2", "Qwen2ForCausalLM", "Qwen2.5-7B"),
    ("Qwen/Qwen3-4B", "qwen3", "Qwen3ForCausalLM", "Qwen3-4B"),
    ("mistralai/Mistral-7B-v0.1", "mistral", "MistralForCausalLM", "Mistral-7B"),
    ("google/gemma-2-9b-it", "gemma2", "Gemma2ForCausalLM", "Gemma-2-9B"),
    ("microsoft/Phi-3.5-mini-instruct", "phi3", "Phi3ForCausalLM", "Phi-3.5-mini"),
    ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", "qwen2", "Qwen2ForCausalLM", "R1-1.5B"),
)
OLD_BASES = (
    ("google-bert/bert-base-uncased", "bert", "BertForSequenceClassification",
     "text-classification"),
    ("FacebookAI/roberta-base", "roberta", "RobertaForTokenClassification", "token-classification"),
    ("distilbert/distilbert-base-uncased", "distilbert", "DistilBertModel", "feature-extraction"),
    ("google-t5/t5-small", "t5", "T5ForConditionalGeneration", "translation"),
    ("openai/whisper-small", "whisper", "WhisperForConditionalGeneration",
     "automatic-speech-recognition"),
    ("google/vit-base-patch16-224", "vit", "ViTForImageClassification", "image-classification"),
)  # fmt: skip
OTHER_LIBRARIES = (
    ("sentence-transformers", "sentence-similarity"), ("timm", "image-classification"),
    ("ultralytics", "object-detection"), ("stable-baselines3", "reinforcement-learning"),
    ("ml-agents", "reinforcement-learning"), ("sklearn", "tabular-classification"),
)  # fmt: skip

LICENSES = (
    ("apache-2.0", 34), ("mit", 16), ("other", 10), ("creativeml-openrail-m", 8), ("llama3.1", 6),
    ("openrail++", 4), ("cc-by-nc-4.0", 5), ("openrail", 3), ("cc-by-4.0", 3), ("gemma", 3),
    ("gpl-3.0", 2), ("", 6),
)  # fmt: skip
LANGUAGES = ("en", "en", "en", "ja", "zh", "ko", "de", "fr", "es", "multilingual")
DATASETS = ("HuggingFaceH4/ultrachat_200k", "allenai/c4", "wikimedia/wikipedia", "imdb", "squad")
PAPERS = ("arxiv:2112.10752", "arxiv:1910.09700", "arxiv:2106.09685", "arxiv:2307.09288")
TOPICS = {
    "image": (
        "art", "anime", "style", "character", "photorealism", "stable-diffusion", "concept",
        "pixel-art", "watercolor", "template:sd-lora", "ai-toolkit", "portrait", "background",
    ),
    "text": (
        "chat", "code", "conversational", "instruct", "math", "roleplay", "merge", "mergekit",
        "trl", "sft", "unsloth", "generated_from_trainer", "reasoning", "long-context",
    ),
}  # fmt: skip
NAME_SUBJECTS = {
    "image": (
        "Watercolor", "Retro-Anime", "Ink-Landscape", "Pixel-Town", "Portrait", "Kimono", "Mecha",
        "Dark-Fantasy", "Film-Grain", "Storybook", "Isometric", "Ukiyo-e", "Paper-Cut", "Neon-City",
    ),
    "text": (
        "Scribe", "Lantern", "Heron", "Compass", "Tanuki", "Magpie", "Harbor", "Thistle", "Otter",
        "Quill", "Aster", "Juniper", "Sparrow", "Basalt",
    ),
}  # fmt: skip
QUANTS = (
    ("Q2_K", 10), ("Q3_K_M", 12), ("Q4_0", 2), ("Q4_K_S", 14), ("Q4_K_M", 15), ("Q5_K_M", 17),
    ("Q6_K", 18), ("Q8_0", 7), ("f16", 1),
)  # fmt: skip

CARDS = {
    "en": (
        "This model was fine-tuned on a curated set of {n} examples.",
        "Use the trigger word `{t}` in your prompt, weight 0.7 to 1.0.",
        "It keeps the abilities of the base model and adds a distinct style.",
        "Evaluation was done on held-out data; results are in the table below.",
        "Known limits: long contexts, rare names, small text inside pictures.",
        "Load it with the library named above; the weights are half precision.",
        "Please respect the license of the base model when you share outputs.",
    ),
    "ja": (
        "このモデルは{n}件のデータで追加学習したものです。",
        "トリガーワード「{t}」をプロンプトに入れてください。推奨強度は0.7〜1.0です。",
        "背景や着物の表現が得意です。人物の手は崩れることがあります。",
        "ライセンスはベースモデルに従います。商用利用の前に確認してください。",
        "日本語の指示にも自然に応答します。",
    ),
    "zh": (
        "本模型使用{n}条数据微调而成。",
        "提示词中加入触发词“{t}”，推荐权重0.7到1.0。",
        "擅长国风与水墨背景，也能写实人像。",
        "请遵守基础模型的许可协议。",
        "支持中文长文本对话。",
    ),
}
HEADINGS = {
    "en": ("Model description", "How to use"),
    "ja": ("モデルの説明", "使い方"),
    "zh": ("模型介绍", "使用方法"),
}
