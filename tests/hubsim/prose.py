"""Names and descriptions of synthetic models, drawn from the vocabulary in `words.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.hubsim import words
from tests.hubsim.population import HOST, log_normal

Draw = Callable[[], float]  # a random number from 0 to 1

_FIXED = {
    "japanese": "リアル系 背景 LoRA",
    "chinese": "国风 水墨 背景",
    "korean": "한복 스타일",
    "russian": "Советская архитектура",
    "emoji": "🌸 Dreamy Garden Style",
    "checkpoint": "Anime Style Mix",
    "slash_in_name": "Anime/Landscape | Flat Color (平涂り風)",
}
_LISTING = (
    "</p><h3>Usage</h3><ul><li><p>steps 28</p></li><li><p>&lt;lora:x:0.8&gt;</p></li></ul><p>"
)
_LINK = f'<strong>More</strong>: <a target="_blank" rel="ugc" href="{HOST}/models">here</a>'
_SENTENCES = {
    "japanese": words.JAPANESE_SENTENCES + words.ENGLISH_SENTENCES[:4],
    "chinese": words.CHINESE_SENTENCES + words.ENGLISH_SENTENCES[:4],
}


def pick(values: Sequence[str], draw: Draw) -> str:
    return values[int(draw() * len(values))]


def script_of(special: str | None, draw: Draw) -> str:
    if special in ("japanese", "chinese", "korean", "russian"):
        return special
    share = draw()
    if share < 0.855:
        return "english"
    if share < 0.925:
        return "japanese"
    if share < 0.985:
        return "chinese"
    return "emoji" if share < 0.996 else "korean" if share < 0.999 else "russian"


def name_of(script: str, special: str | None, draw: Draw) -> tuple[str, str]:
    """The model's name, and an English one to derive file names and triggers from."""
    adjective, subject = pick(words.ADJECTIVES, draw), pick(words.SUBJECTS, draw)
    character = pick(words.CHARACTERS, draw)
    pattern = pick(words.ENGLISH_NAMES, draw)
    english = pattern.format(a=adjective, s=subject, c=character, n=1 + int(draw() * 9))
    if special in _FIXED:
        return _FIXED[special], english
    if script == "japanese":
        name = pick(words.JAPANESE_NAMES, draw).format(
            a=pick(words.JAPANESE_STYLES, draw),
            s=pick(words.JAPANESE_SUBJECTS, draw),
            c=pick(words.JAPANESE_CHARACTERS, draw),
            e=character,
        )
    elif script == "chinese":
        name = pick(words.CHINESE_NAMES, draw).format(
            a=pick(words.CHINESE_STYLES, draw),
            s=pick(words.CHINESE_SUBJECTS, draw),
            c=pick(words.CHINESE_CHARACTERS, draw),
            e=english,
        )
    elif script == "korean":
        name = pick(words.HANGUL_NAMES, draw)
    elif script == "russian":
        name = pick(words.CYRILLIC_NAMES, draw)
    elif script == "emoji":
        name = f"{pick(words.EMOJI, draw)} {english}"
    else:
        name = english
    return name, english


def description_of(script: str, draw: Draw) -> str:
    """HTML. Lengths are about log-normal: some 400 characters, now and then thousands."""
    sentences = _SENTENCES.get(script, words.ENGLISH_SENTENCES)
    count = max(1, min(600, int(log_normal(6, 1.05, draw()))))
    known = len(sentences)
    text = "</p><p>".join([sentences[int(draw() * known)] for _ in range(count)])
    if draw() < 0.3:
        text += _LISTING
    if draw() < 0.2:
        text += _LINK
    return f"<p>{text}</p>".format(
        n=20 + int(draw() * 400),
        r=pick(("512", "768", "1024"), draw),
        s=pick(words.SUBJECTS, draw).lower(),
        a=pick(words.ADJECTIVES, draw).lower(),
        c=pick(words.CHARACTERS, draw),
    )
