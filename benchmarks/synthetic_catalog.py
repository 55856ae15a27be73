"""A catalog of any size for benchmarks: cheap, seeded, with the hub's known proportions.

Names, about 45 words of description, tags, types, base models and counts follow the shares that
were measured on the real hub: 91 % LoRA, 13 % of names in Han or kana, word and tag frequencies
long-tailed. It makes search projections and store rows, not hub documents: tests.hubsim does those.
"""

import json
import random
from collections.abc import Iterator, Sequence
from itertools import accumulate

from modelkeepd.catalog.projection import Projection, nsfw_level
from modelkeepd.hubs.contract import ParsedModel
from modelkeepd.hubs.documents import DocumentCodec
from modelkeepd.store import Tx

_ENGLISH = """
style anime girl character portrait realistic photo lighting detail background hair eyes dress
armor fantasy landscape city night cyberpunk robot mecha dragon cat fox wolf samurai ninja witch
princess knight school uniform swimsuit casual outfit pose hands face skin texture film vintage
retro pixel watercolor sketch ink oil painting comic manga game concept art vector logo icon food
car vehicle weapon sword gun building interior room forest ocean beach mountain sky cloud flower
winter summer autumn spring snow rain fire water light shadow neon gothic steampunk horror monster
trained images steps epochs weight strength prompt negative recommended version update sampler
""".split()  # noqa: SIM905
_JAPANESE = """
東京 学習 画像 女の子 男の子 制服 学校 背景 夜景 桜 着物 浴衣 猫 犬 狐 魔法少女 騎士 剣 刀 忍者 侍
鬼滅の刃 原神 ウマ娘 ブルアカ アニメ マンガ イラスト 水彩 油絵 写真 リアル 高画質 美少女 眼鏡 金髪
銀髪 黒髪 長髪 短髪 笑顔 表情 ポーズ 手 指 顔 肌 服 衣装 ドレス 鎧 ロボット メカ 車 電車 建物 街 森
海 山 空 雲 雪 雨 光 影 花 モデル チェックポイント スタイル キャラクター ゲーム ファンタジー 強度
推奨 トリガーワード プロンプト バージョン 更新 作成 使用 生成 品質 細部 質感
""".split()  # noqa: SIM905
_CHINESE = """
模型 训练 风格 人物 角色 女孩 男孩 古风 汉服 国风 水墨 写实 摄影 光影 背景 城市 夜晚 建筑 室内
动漫 游戏 原神 仙侠 武侠 剑 机甲 未来 科幻 汽车 美食 头发 眼睛 服装 裙子 皮肤 细节 画质 权重 建议
推荐 提示词 版本 更新 使用 生成 图片 效果 作者 测试 大模型 融合
""".split()  # noqa: SIM905
_PARTICLES = ["の", "を", "に", "は", "が", "で", "と", "から", "です。", "しました。"]
_SYLLABLES = [
    c + v for c in "bdfghjklmnprstvz" for v in ("a", "e", "i", "o", "u", "an", "or", "el")
]

_TYPES = {
    "LORA": 9135, "Checkpoint": 332, "LoCon": 187, "TextualInversion": 184, "Workflows": 86,
    "VAE": 20, "Controlnet": 16, "Upscaler": 12, "DoRA": 12, "Poses": 8, "Wildcards": 4, "Other": 4,
}  # fmt: skip
_BASES = {
    "Illustrious": 28, "Pony": 20, "SD 1.5": 18, "SDXL 1.0": 14, "Flux.1 D": 8, "NoobAI": 6,
    "ZImageTurbo": 2, "Wan Video 14B t2v": 2, "Qwen": 1, "Other": 1,
}  # fmt: skip
_LEVELS = {1: 30, 3: 12, 7: 10, 15: 8, 31: 14, 28: 10, 60: 8, 4: 8}
_DAY_MS = 86_400_000
_START_MS = 1_668_000_000_000


class _Choice:
    """Weighted picks at the cost of random.choices, with the weights added up once."""

    def __init__(self, rng: random.Random, items: Sequence[str], weights: Sequence[float]) -> None:
        self._rng, self._items = rng, items
        self._sums = list(accumulate(weights))

    def some(self, count: int) -> list[str]:
        return self._rng.choices(self._items, cum_weights=self._sums, k=count)


def _long_tailed(rng: random.Random, items: Sequence[str], power: float = 1.0) -> _Choice:
    return _Choice(rng, items, [1 / (rank + 10) ** power for rank in range(len(items))])


def _weighted(rng: random.Random, shares: dict[str, int]) -> _Choice:
    return _Choice(rng, list(shares), list(shares.values()))


def vocabulary(size: int = 30_000) -> list[str]:
    """English-looking words, real and common ones first."""
    rng = random.Random("vocabulary")
    words = dict.fromkeys(_ENGLISH)
    while len(words) < size:
        words["".join(rng.choices(_SYLLABLES, k=rng.choice((2, 3, 3, 4))))] = None
    return list(words)


def synthetic_models(count: int, seed: int = 1) -> Iterator[Projection]:
    """``count`` models with keys from 1."""
    rng = random.Random(seed)
    words = vocabulary()
    english = _long_tailed(rng, words)
    japanese = _long_tailed(rng, _JAPANESE, 0.7)
    chinese = _long_tailed(rng, _CHINESE, 0.7)
    particles = _Choice(rng, _PARTICLES, [1] * len(_PARTICLES))
    tags = _long_tailed(rng, [*_ENGLISH[:80], *_JAPANESE[:20], *words[500:6_000]])
    creators = _long_tailed(rng, [f"{words[i % 29_000 + 700]}{i}" for i in range(60_000)], 0.8)
    types, bases = _weighted(rng, _TYPES), _weighted(rng, _BASES)
    levels = _Choice(rng, [str(level) for level in _LEVELS], list(_LEVELS.values()))
    for key in range(1, count + 1):
        script = rng.random()
        if script < 0.06:
            name = "".join(japanese.some(rng.randint(1, 3))) + " LoRA"
            pairs = zip(japanese.some(24), particles.some(24), strict=True)
            description = "".join(word + particle for word, particle in pairs)
        elif script < 0.14:
            name = "".join(chinese.some(rng.randint(1, 4)))
            description = "，".join("".join(chinese.some(4)) for _ in range(8))
        else:
            name = " ".join(english.some(rng.randint(1, 4))).title()
            description = " ".join(english.some(rng.randint(15, 75)))
        published_ms = _START_MS + rng.randrange(1_400) * _DAY_MS
        yield Projection(
            model_key=key,
            changed_seq=0,
            hub="civitai",
            name=name,
            type=types.some(1)[0],
            creator=creators.some(1)[0],
            tags=tuple(dict.fromkeys(tags.some(rng.randint(1, 8)))),
            base_models=tuple(dict.fromkeys(bases.some(rng.choice((1, 1, 1, 1, 2))))),
            texts=(description, f"v{rng.randint(1, 5)}.0", f"{words[key % 30_000]}_{key}"),
            nsfw=nsfw_level(int(levels.some(1)[0])),
            downloads=int(rng.lognormvariate(5.5, 1.8)),
            likes=int(rng.lognormvariate(3.5, 1.5)),
            published_ms=published_ms,
            updated_ms=published_ms + rng.randrange(200) * _DAY_MS,
            size_bytes=int(rng.lognormvariate(18.8, 0.8)),
            commercial=rng.random() < 0.7,
            owned=rng.random() < 0.001,
        )


KINDS = (
    "a rare word", "a middling word", "a common word", "a common word, filtered",
    "two common words", "a Japanese word", "a Japanese word, filtered", "two Japanese words",
    "a Chinese word", "a single character",
)  # fmt: skip


def query_mix(per_kind: int = 20, seed: int = 1) -> list[str]:
    """200 queries: the kinds of word the design measured, as many in English as in CJK."""
    rng = random.Random(seed)
    words = vocabulary()
    # in a thousand, some ten thousand and over a hundred thousand of a million models
    rare, middling, common = words[5_000:12_000], words[200:600], _ENGLISH[:60]
    single = [word for word in (*_JAPANESE, *_CHINESE) if len(word) == 1]
    fields = ('type:lora base:"SDXL 1.0" nsfw:<=2', "type:checkpoint", "base:pony downloads:>100")

    def pick(kind: str) -> str:
        match kind:
            case "a rare word":
                return rng.choice(rare)
            case "a middling word":
                return rng.choice(middling)
            case "a common word":
                return rng.choice(common)
            case "a common word, filtered":
                return f"{rng.choice(common)} {rng.choice(fields)}"
            case "two common words":
                return " ".join(rng.sample(common, 2))
            case "a Japanese word":
                return rng.choice(_JAPANESE)
            case "a Japanese word, filtered":
                return f"{rng.choice(_JAPANESE)} {rng.choice(fields)}"
            case "two Japanese words":
                return " ".join(rng.sample(_JAPANESE, 2))
            case "a Chinese word":
                return rng.choice(_CHINESE)
        return rng.choice(single)

    mix = [pick(kind) for kind in KINDS for _ in range(per_kind)]
    rng.shuffle(mix)
    return mix


def insert_models(tx: Tx, models: Sequence[Projection], codec: DocumentCodec) -> None:
    """One page: rows of the mirror, each with its texts as a small document."""
    seq = tx.emit("model", "page", "civitai", {"count": len(models)})
    tx.db.executemany(
        "INSERT INTO model (model_key, hub, hub_id, ref_id, name, type, creator, base_models, tags,"
        " nsfw_level, downloads, likes, commercial, published_ms, updated_ms, size_bytes, owned,"
        " hub_state, first_seen_ms, seen_ms, changed_seq, doc_hash)"
        " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,'listed',0,0,?,x'00')",
        [
            (
                m.model_key, m.hub, str(m.model_key), str(m.model_key), m.name, m.type, m.creator,
                json.dumps(m.base_models, ensure_ascii=False),
                json.dumps(m.tags, ensure_ascii=False),
                m.nsfw, m.downloads, m.likes, m.commercial, m.published_ms, m.updated_ms,
                m.size_bytes, m.owned, seq,
            )
            for m in models
        ],
    )  # fmt: skip
    tx.db.executemany(
        "INSERT INTO document (model_key, dict_id, raw, fetched_ms) VALUES (?, NULL, ?, 0)",
        [(m.model_key, codec.compress(json.dumps(m.texts).encode(), None)) for m in models],
    )


def parse_texts(hub: str, raw: bytes) -> ParsedModel:
    """The parser of those documents: search wants nothing but texts of it."""
    return ParsedModel(
        hub=hub, hub_id="1", ref_id="1", name="", type="", creator=None, tags=(),
        description="\n".join(json.loads(raw)), nsfw_level=None, downloads=None, likes=None,
        commercial=None, hub_state="listed", versions=(), base_models=(), published_ms=None,
        updated_ms=None, size_bytes=None,
    )  # fmt: skip
