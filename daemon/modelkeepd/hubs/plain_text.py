"""Hub descriptions, which are HTML, as plain text for search and terminals.

Owns the stripping only. It is no sanitizer: what comes out is text and is never rendered as HTML.
It runs for every model of a crawl: splitting at ``<`` and looking the tag up took a sixth of the
time of regular expressions with the elements' names.
"""

import html
import re

MAX_HTML = 400_000
MAX_TEXT = 64_000

_BLOCK_NAMES = """
article aside blockquote br dd details div dl dt figure footer h1 h2 h3 h4 h5 h6 header hr li main
nav ol p pre section summary table td th tr ul
"""
_INLINE_NAMES = """
a abbr b body center cite code del em figcaption font head html i iframe img ins kbd label mark q s
samp script small source span strike strong style sub sup tbody tfoot thead tt u var video wbr
"""
# what most tags look like, so that most need no parsing
_SEEN = {
    **{
        form.format(name): "\n"
        for name in _BLOCK_NAMES.split()
        for form in ("{}", "/{}", "{} /", "{}/")
    },
    **{form.format(name): "" for name in _INLINE_NAMES.split() for form in ("{}", "/{}")},
}
_HIDDEN = re.compile(r"<(script|style)\b[^<>]*>[^<]*</\1\s*>", re.IGNORECASE)
_BLANKS = re.compile(r"[^\S\n]+")


def plain_text(source: str) -> str:
    """The words of an HTML text, one line per block, at most MAX_TEXT characters."""
    text = source[:MAX_HTML]
    if "<" in text:
        if "<!--" in text:
            text = _without_comments(text)
        if "</s" in text or "</S" in text:
            text = _HIDDEN.sub(" ", text)
        text = _without_tags(text)
    if "&" in text:
        text = html.unescape(text)
    return tidy(text, MAX_TEXT)


def _without_comments(text: str) -> str:
    # no regular expression: a thousand openings without an end would make it quadratic
    out, at = [], 0
    while (start := text.find("<!--", at)) >= 0 and (end := text.find("-->", start + 4)) >= 0:
        out.append(text[at:start])
        at = end + 3
    out.append(text[at:])
    return " ".join(out)


def _without_tags(text: str) -> str:
    first, *parts = text.split("<")
    out = [first]
    for part in parts:
        tag, closed, after = part.partition(">")
        instead = _SEEN.get(tag) if closed else None
        if instead is None:
            if closed and tag and not tag[0].isspace():  # with attributes, or in capitals
                instead = _SEEN.get(tag.split(maxsplit=1)[0].lower())
            if instead is None:
                # no element: prompts are written into descriptions unescaped, and
                # `<lora:name:0.8>` is something people search for
                out.append("<")
                out.append(part)
                continue
        out.append(instead)
        out.append(after)
    return "".join(out)


def tidy(text: str, limit: int) -> str:
    """Text without control characters and runs of blanks, at most ``limit`` characters."""
    if len(text) > limit:
        text = text[:limit]
    if not text.isprintable():
        text = text.replace("\xa0", " ").replace("\u3000", " ")
        lines = text.split("\n")
        if not all(map(str.isprintable, lines)):
            lines = "".join(map(_shown, text)).split("\n")
        text = "\n".join([line.strip() for line in lines if line and not line.isspace()])
    if "  " in text:
        text = _BLANKS.sub(" ", text)
    return text.strip()


def _shown(character: str) -> str:
    if character == "\n" or character.isprintable():
        return character
    if character.isspace():
        return "\n" if character in "\r\v\f\x85\u2028\u2029" else " "
    # a lone surrogate has no UTF-8; control and format characters show nothing, or lie
    return "\ufffd" if "\ud800" <= character <= "\udfff" else ""
