"""The vocabulary of the synthetic catalog: what its models are called and described with.

Plain data: words people really search for (styles, characters, backgrounds) in English, Japanese
and Chinese, with some Korean and Russian, and sentences as creators write them. Names of people
and characters are invented or old enough to belong to everybody.
"""

ADJECTIVES = (
    "Anime", "Realistic", "Retro", "Dreamy", "Cinematic", "Dark Fantasy", "Pastel", "Watercolor",
    "Cyberpunk", "Vintage", "Flat Color", "Semi-Realistic", "Gothic", "Neon", "Soft", "Detailed",
    "Minimalist", "Ukiyo-e", "Oil Painting", "Pixel Art", "Comic", "Chibi", "Steampunk", "Surreal",
    "Photographic", "Hand-drawn", "Low Poly", "Isometric", "Impressionist", "Noir",
)  # fmt: skip
SUBJECTS = (
    "Landscape", "Portrait", "Background", "City", "Forest", "Armor", "Dress", "Kimono", "School",
    "Mecha", "Dragon", "Cat", "Interior", "Food", "Vehicle", "Eyes", "Hands", "Lighting", "Pose",
    "Clothing", "Castle", "Ocean", "Night Sky", "Garden", "Hair", "Logo", "Texture", "Robot",
    "Witch", "Knight", "Fox", "Shrine", "Library", "Train", "Storefront", "Spaceship",
)  # fmt: skip
CHARACTERS = (
    "Alice", "Kaguya", "Morgan le Fay", "Robin Hood", "Snow Queen", "Momotaro", "Baba Yaga",
    "Sun Wukong", "Captain Nemo", "Mina Harker", "Akari Hoshino", "Rin Tsukishiro", "Lian Yue",
    "Freya", "Isolde", "Yuki-onna", "Carmilla", "Dorothy", "Scheherazade", "Hua Mulan",
    "Sora Amano", "Elena Voss", "Mika Aozora", "Nezha",
)  # fmt: skip
ENGLISH_NAMES = (
    "{a} {s} Style", "{a} {s}", "{s} - {a} Style LoRA", "{c} ({a})", "{c} | Character LoRA",
    "{a} Style Mix", "{a} {s} Slider", "{c} - {s} outfit", "{a}Mix", "{s} Helper", "{s} XL {a}",
    "[{a}] {c}", "{c} / {s}", "{a} {s} Concept", "Detail {s} Tweaker", "{a} Merge v{n}",
    "anime style {s}", "{s} background", "Better {s}", "{c} character pack",
)  # fmt: skip

JAPANESE_STYLES = (
    "リアル系", "アニメ塗り", "水彩風", "厚塗り", "平涂り風", "浮世絵風", "少女漫画風",
    "レトロアニメ",
    "ドット絵", "和風", "淡い色", "油絵風", "ちびキャラ", "劇画調",
)  # fmt: skip
JAPANESE_SUBJECTS = (
    "背景", "制服", "着物", "風景", "夜景", "廃墟", "猫耳", "髪型", "表情", "神社",
    "教室", "街並み",
    "桜", "メカ", "武器", "巫女", "浴衣", "構図", "光の表現", "学校の廊下", "魔法使い", "温泉街",
)  # fmt: skip
JAPANESE_CHARACTERS = (
    "かぐや姫", "雪女", "桃太郎", "星野あかり", "月城りん", "青空みか", "アリス",
    "天野そら", "座敷童子",
)  # fmt: skip
JAPANESE_NAMES = (
    "{a}{s}", "{a} {s} LoRA", "{c}（{a}）", "{s}用LoRA", "{a}チェックポイント",
    "{c} {s}", "{a}ミックス",
    "{s} 背景 {a}", "【{a}】{s}", "{c} / {e}",
)  # fmt: skip

CHINESE_STYLES = (
    "国风", "水墨", "写实", "古风", "赛博朋克", "厚涂", "二次元", "胶片", "插画", "科幻",
    "国潮", "卡通",
)  # fmt: skip
CHINESE_SUBJECTS = (
    "人像", "背景", "汉服", "建筑", "山水", "室内设计", "古镇", "机甲", "表情", "服装",
    "光影", "花园",
    "城市夜景", "产品摄影",
)  # fmt: skip
CHINESE_CHARACTERS = ("孙悟空", "花木兰", "哪吒", "白素贞", "嫦娥", "连月")
CHINESE_NAMES = (
    "{a}{s}", "{a}风格 {s}", "{c}-{a}", "{a}大模型", "{s}模型 {a}", "{c} {s}", "{a} | {e}",
)  # fmt: skip

HANGUL_NAMES = ("한복 스타일", "수채화 풍경", "몽환적인 배경", "서울 야경", "학교 교실", "고양이")
CYRILLIC_NAMES = ("Советская архитектура", "Зимний лес", "Баба-яга", "Акварельный стиль")
EMOJI = ("🌸", "🐻", "✨", "🔥", "🎨", "🌙", "⭐", "🦊")

ENGLISH_TAGS = (
    "anime", "style", "character", "realistic", "background", "woman", "man", "landscape", "girls",
    "photorealistic", "concept", "clothing", "fantasy", "cute", "video game", "cartoon", "portrait",
    "sexy", "base model", "illustration", "animal", "buildings", "celebrity", "objects", "poses",
    "tool", "vehicle", "weapon", "retro", "cyberpunk", "comic", "furry", "action", "assets",
    "art style", "sci-fi", "horror", "watercolor", "armor", "manga", "photography", "detailed",
    "dark fantasy", "food", "kimono", "mecha", "nature", "architecture", "slider", "lighting",
)  # fmt: skip
OTHER_TAGS = ("背景", "アニメ", "リアル", "着物", "国风", "水墨", "人像", "風景")

ENGLISH_SENTENCES = (
    "This model was trained on {n} images at {r} resolution.",
    "Recommended weight is 0.6 to 0.9; higher values make the style stronger.",
    "Use the trigger word at the beginning of your prompt for the best results.",
    "It works well for anime style portraits and detailed background scenes.",
    "I made this because I could not find a good {s} model with a {a} look.",
    "Please leave a review and post your pictures, it helps a lot.",
    "Sampler: Euler a, steps 25 to 35, CFG scale 5 to 7, clip skip 2.",
    "Version 2 fixes the hands and keeps the colors of the base model.",
    "Combine it with other style models, but lower the weight of both.",
    "The dataset mixes paintings, photographs and screenshots of {s}.",
    "Not suitable for close-up faces; try a face detailer afterwards.",
    "Special thanks to everyone who supported the training.",
    "It can draw {c} in many outfits, from school uniform to full armor.",
    "This checkpoint is a merge of several realistic models and needs no VAE.",
    "Negative prompt: worst quality, low quality, watermark, extra fingers.",
    "Characters keep their hair and eye color even at low weight.",
)
JAPANESE_SENTENCES = (
    "学習画像は{n}枚、解像度は{r}です。",
    "推奨強度は0.6〜0.9くらいです。強くするとリアル系に寄ります。",
    "トリガーワードをプロンプトの先頭に入れてください。",
    "アニメ風の人物と背景の両方に使えます。",
    "手や指が崩れる場合はステップ数を増やしてみてください。",
    "商用利用については各モデルのライセンスを確認してください。",
    "生成した画像を投稿していただけると嬉しいです。",
    "背景を描くのに向いています。夜景や神社もきれいに出ます。",
    "バージョン2では髪型と表情の再現度を改善しました。",
    "チェックポイントとの相性があるので、いろいろ試してください。",
)
CHINESE_SENTENCES = (
    "训练集共{n}张图片，分辨率{r}。",
    "推荐权重0.6到0.9，权重越高风格越明显。",
    "请在提示词开头加入触发词。",
    "适合写实人像和古风背景。",
    "如果脸部崩坏，请使用高清修复。",
    "欢迎返图，谢谢大家的支持。",
    "建议采样器 Euler a，步数 25 到 35。",
    "本模型由多个模型融合而成，不需要外挂 VAE。",
)
VERSION_NAMES = (
    "v1.0",
    "v2.0",
    "v3.0",
    "V1",
    "fp16",
    "pruned",
    "Illustrious",
    "XL",
    "beta",
    "final",
)
CREATOR_HEADS = (
    "Aki", "Blue", "Cinder", "Dusk", "Ember", "Frost", "Glyph", "Haru", "Ink", "Juno", "Kite",
    "Lumen", "Moss", "Nori", "Opal", "Pixel", "Quill", "Rune", "Sumi", "Tofu", "Umber", "Vela",
)  # fmt: skip
CREATOR_TAILS = ("Forge", "Works", "Lab", "_ai", "Painter", "Studio", "chan", "Smith", "", "Mix")

# Shares of base models are the guess of a feed reader, not an official table.
BASE_MODELS = (
    ("Illustrious", 30), ("Pony", 18), ("SDXL 1.0", 14), ("SD 1.5", 14), ("Flux.1 D", 10),
    ("NoobAI", 4), ("ZImageTurbo", 3), ("Wan Video 14B t2v", 2), ("Qwen", 2), ("Anima", 1),
    ("Krea 2", 1), ("Other", 1),
)  # fmt: skip
