"""What a model is about, told by its tags. Pure; the words are kinds.toml's."""

from collections.abc import Iterable, Sequence
from functools import cache, lru_cache

from modelkeepd.kinds.table import Topic, table, word_key

_MAX_TAG_CHARS = 200


def topics() -> Sequence[Topic]:
    """All topics, in the file's order."""
    return tuple(table().topics.values())


def canonical_topic(word: str) -> str:
    """Our name for a topic (``poses`` and ``ポーズ`` are pose); an unknown word as it is."""
    return table().topic_words.get(word_key(word), word)


def topics_of(tags: Iterable[str]) -> tuple[str, ...]:
    """The topics these tags name, each once, in the tags' order."""
    return tuple(dict.fromkeys(topic for tag in tags if (topic := _topic_of(tag)) is not None))


@lru_cache(10_000)
def _topic_of(tag: str) -> str | None:
    if len(tag) > _MAX_TAG_CHARS:
        return None
    key = word_key(tag)
    topic = table().topic_words.get(key)
    if topic is not None:
        return topic
    last = word_key(tag.replace("_", " ").replace("-", " ").rpartition(" ")[2])
    for ending, of in _endings():
        if last == ending or (not ending.isascii() and key.endswith(ending)):
            return of
    return None


@cache
def _endings() -> tuple[tuple[str, str], ...]:
    return tuple(
        (word_key(ending), topic.name)
        for topic in table().topics.values()
        for ending in topic.endings
    )
