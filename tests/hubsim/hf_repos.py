"""One synthetic repository: what it is called, tagged and described with.

Pure functions of (seed, index). A name ends in a short code that holds the index, so that a
repository can be found by its name among a million without a table.
"""

from __future__ import annotations

import _random
from collections.abc import Callable, Mapping, Sequence

from tests.hubsim import hf_words, words
from tests.hubsim.hf_population import Population, Repo
from tests.hubsim.population import Json, spread

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_LICENSE_TABLE = spread(hf_words.LICENSES)
# Of these tags the kind alone says which are possible: lists rule out rows without making them.
DECIDED_TAGS = frozenset({"diffusers", "peft", "gguf", "lora", "transformers"})
POSSIBLE_TAGS: dict[str, frozenset[str]] = {
    "transformers": frozenset({"transformers"}),
    "lora": frozenset({"diffusers", "lora"}),
    "gguf": frozenset({"gguf", "transformers"}),
    "pickle": frozenset({"transformers"}),
    "peft": frozenset({"peft", "lora"}),
    "diffusers": frozenset({"diffusers"}),
    "single_file": frozenset(),
    "bare": frozenset(),
    "other": frozenset(),
}
Draw = Callable[[], float]


def code_of(index: int) -> str:
    out = ""
    while index:
        index, digit = divmod(index, 36)
        out = _DIGITS[digit] + out
    return out.rjust(3, "0")


def index_in(name: str) -> int | None:
    """The index that a repository's name (or the end of a one-part one) bears."""
    code = name.lower().removesuffix("-gguf").rpartition("-")[2]
    if not 3 <= len(code) <= 6 or not code.isascii() or not code.isalnum():
        return None
    return int(code, 36)


def _pick(values: Sequence[str], draw: Draw) -> str:
    return values[int(draw() * len(values))]


class RepoMaker:
    """Makes the facts of a repository from its index."""

    def __init__(self, population: Population) -> None:
        self.population = population
        self._random = _random.Random()  # the bare generator: seeding it is most of its cost

    def author(self, index: int, draw: Draw) -> str:
        number = self.population.hash(int(self.population.authors * draw() ** 2), 7)
        if number % 5 == 0:
            return hf_words.ORGS[number // 5 % len(hf_words.ORGS)]
        head = words.CREATOR_HEADS[number % len(words.CREATOR_HEADS)]
        tail = words.CREATOR_TAILS[number // 32 % len(words.CREATOR_TAILS)].replace("_", "-")
        return f"{head}{tail}{number // 512 % 1000}"

    def repo(self, index: int, born_s: int | None = None) -> Repo:
        """The repository as it was when the hub started, or when it was born after that."""
        population = self.population
        special = population.special(index)
        created_s = population.created_s(index) if born_s is None else born_s
        key = population.key_at(created_s, index)
        commits = population.commits(index)
        repo = Repo(
            key,
            "",
            index,
            created_s * 1000,
            population.modified_s(index) * 1000,
            population.downloads(index),
            population.likes(index),
            kind=population.kind(index, special),
            special=special,
            trending=population.trending(index),
            gated=population.gated(index, special),
            disabled=special == "disabled",
            gone="private" if special == "private" else None,
            commits=commits,
            sha=population.sha(key, commits - 1),
        )
        if special == "float_trending":
            repo.trending = 3.5
        if born_s is not None:
            repo.modified_ms, repo.downloads, repo.likes = born_s * 1000, 0, 0
            repo.trending, repo.gated = None, False
        self._random.seed(population.hash(index, 8))
        self._dress(repo, self._random.random)
        return repo

    def _dress(self, repo: Repo, draw: Draw) -> None:
        author = self.author(repo.index, draw)
        language = _pick(hf_words.LANGUAGES, draw)
        if repo.special in ("japanese", "chinese"):
            language = "ja" if repo.special == "japanese" else "zh"
        license_id = _LICENSE_TABLE[int(draw() * 1024)]
        repo.license = license_id or None
        repo.languages = (language,) if draw() < 0.6 or language in ("ja", "zh") else ()
        image = repo.kind in ("lora", "diffusers", "single_file")
        realm = "image" if image else "text"
        pool = hf_words.TOPICS[realm]
        count = 1 + int(draw() * 4)
        repo.topics = tuple(dict.fromkeys([_pick(pool, draw) for _ in range(count)]))
        subject = _pick(hf_words.NAME_SUBJECTS[realm], draw)
        name = _MAKERS[repo.kind](repo, subject, draw)
        if repo.special == "no_pipeline_tag":
            repo.pipeline_tag = repo.library = None
        elif repo.special == "no_card":
            repo.license, repo.languages, repo.topics = None, (), ()
        elif repo.special == "merge":
            repo.relation = "merge"
        elif repo.special == "card_lists":
            repo.languages = ("en", "de", "ja")
        if repo.special != "mixed_case":
            name = name.lower() if draw() < 0.3 else name
        suffix = "-GGUF" if repo.kind == "gguf" else ""
        repo.name = f"{author}/{name}-{code_of(repo.index)}{suffix}"
        repo.tags = _tags(repo, draw)

    def old_name(self, repo: Repo) -> str | None:
        """What the repository was called before the hub started, if it was renamed since."""
        if repo.special == "renamed":
            return f"former-owner/first-name-{code_of(repo.index)}"
        if repo.special == "one_part" or (repo.special is None and repo.index < self._one_part):
            return repo.name.rpartition("/")[2]
        return None

    @property
    def _one_part(self) -> int:
        """Ids of one part are older than organizations; those repositories moved to one since."""
        return self.population.old_count // 4


# --- kinds: what they set on the repository, and their names --------------------------------------


def _lora(repo: Repo, subject: str, draw: Draw) -> str:
    base, family, _ = hf_words.IMAGE_BASES[int(draw() * len(hf_words.IMAGE_BASES))]
    repo.base_model, repo.relation, repo.family = base, "adapter", family
    repo.library = "diffusers"
    video = family == "wan21"
    if draw() < 0.85:
        repo.pipeline_tag = "text-to-video" if video else "text-to-image"
    return f"{subject}-{family}-lora"


def _diffusers(repo: Repo, subject: str, draw: Draw) -> str:
    base, family, _ = hf_words.IMAGE_BASES[int(draw() * len(hf_words.IMAGE_BASES))]
    repo.family, repo.library, repo.pipeline_tag = family, "diffusers", "text-to-image"
    if draw() < 0.6:
        repo.base_model = base
    return f"{subject}-{family}"


def _single_file(repo: Repo, subject: str, draw: Draw) -> str:
    base, family, _ = hf_words.IMAGE_BASES[int(draw() * len(hf_words.IMAGE_BASES))]
    repo.family = family
    if draw() < 0.5:
        repo.pipeline_tag = "text-to-image"
    if draw() < 0.4:
        repo.base_model = base
    return f"{subject.replace('-', '')}Mix_{family}"


def _text_base(repo: Repo, draw: Draw) -> str:
    base, family, _, kin = hf_words.TEXT_BASES[int(draw() * len(hf_words.TEXT_BASES))]
    repo.base_model, repo.family = base, family
    return kin


def _transformers(repo: Repo, subject: str, draw: Draw) -> str:
    kin = _text_base(repo, draw)
    repo.library = "transformers"
    if draw() < 0.9:
        repo.pipeline_tag = "text-generation"
    if draw() < 0.3:
        repo.base_model = None
    return f"{subject}-{kin}"


def _gguf(repo: Repo, subject: str, draw: Draw) -> str:
    kin = _text_base(repo, draw)
    repo.relation = "quantized"
    if draw() < 0.4:
        repo.library = "transformers"
    if draw() < 0.6:
        repo.pipeline_tag = "text-generation"
    return f"{subject}-{kin}"


def _peft(repo: Repo, subject: str, draw: Draw) -> str:
    kin = _text_base(repo, draw)
    repo.relation, repo.library = "adapter", "peft"
    if draw() < 0.4:
        repo.pipeline_tag = "text-generation"
    return f"{subject.lower()}-{kin}-lora"


def _pickle(repo: Repo, subject: str, draw: Draw) -> str:
    base, family, _, task = hf_words.OLD_BASES[int(draw() * len(hf_words.OLD_BASES))]
    repo.family, repo.library, repo.pipeline_tag = family, "transformers", task
    if draw() < 0.5:
        repo.base_model = base
    return f"{family}-{subject.lower()}-finetuned"


def _other(repo: Repo, subject: str, draw: Draw) -> str:
    repo.library, repo.pipeline_tag = hf_words.OTHER_LIBRARIES[
        int(draw() * len(hf_words.OTHER_LIBRARIES))
    ]
    return f"{subject}-{repo.library}"


def _bare(repo: Repo, subject: str, draw: Draw) -> str:
    repo.license, repo.languages, repo.topics = None, (), ()
    return f"{subject}-test"


_MAKERS: Mapping[str, Callable[[Repo, str, Draw], str]] = {
    "lora": _lora,
    "diffusers": _diffusers,
    "single_file": _single_file,
    "transformers": _transformers,
    "gguf": _gguf,
    "peft": _peft,
    "pickle": _pickle,
    "other": _other,
    "bare": _bare,
}


def pipeline_class(repo: Repo) -> str:
    return next(
        (name for _, family, name in hf_words.IMAGE_BASES if family == repo.family),
        "DiffusionPipeline",
    )


def architecture(repo: Repo) -> str:
    for _, family, name, _ in hf_words.TEXT_BASES + hf_words.OLD_BASES:
        if family == repo.family:
            return name
    return "AutoModel"


def _tags(repo: Repo, draw: Draw) -> list[str]:
    """In the hub's order: library, formats, what the author wrote, what follows from the rest."""
    tags: list[str] = []
    if repo.library:
        tags.append(repo.library)
    if repo.kind in ("diffusers", "transformers", "peft"):
        tags.append("safetensors")
    elif repo.kind == "pickle":
        tags.append("pytorch")
    elif repo.kind == "gguf":
        tags.append("gguf")
    elif repo.kind == "single_file":
        tags.append("stable-diffusion")
    if repo.kind in ("transformers", "pickle"):
        tags.append(repo.family)
    if repo.pipeline_tag:
        tags.append(repo.pipeline_tag)
    if repo.kind in ("lora", "peft"):
        tags.append("lora")
    tags += [topic for topic in repo.topics if topic not in tags]
    if repo.special == "merge":
        tags += [tag for tag in ("merge", "mergekit") if tag not in tags]
    tags += repo.languages
    if draw() < 0.15:
        tags.append(f"dataset:{_pick(hf_words.DATASETS, draw)}")
    if draw() < 0.1:
        tags.append(_pick(hf_words.PAPERS, draw))
    if repo.base_model:
        tags += [f"base_model:{repo.base_model}", f"base_model:{repo.relation}:{repo.base_model}"]
    if repo.license:
        tags.append(f"license:{repo.license}")
    if repo.kind in ("transformers", "pickle", "diffusers"):
        tags += ["autotrain_compatible", "endpoints_compatible"]
    if repo.kind == "diffusers":
        tags.append(f"diffusers:{pipeline_class(repo)}")
    tags.append("region:us")
    return tags


# --- the model card -------------------------------------------------------------------------------


def card_data(repo: Repo) -> Json | None:
    """The front matter of README.md as the hub parses it. Strings and lists, as authors please."""
    card: Json = {}
    if repo.license:
        card["license"] = repo.license
        if repo.license == "other":
            card |= {"license_name": "sim-community", "license_link": "LICENSE"}
    if repo.languages:
        one = len(repo.languages) == 1 and repo.index % 2 == 0
        card["language"] = repo.languages[0] if one else list(repo.languages)
    if repo.base_model:
        listed = repo.special == "card_lists" or repo.index % 3 == 0
        card["base_model"] = [repo.base_model] if listed else repo.base_model
        if repo.relation in ("merge", "quantized") or repo.index % 5 == 0:
            card["base_model_relation"] = repo.relation
    if repo.topics:
        extra = ["lora"] if repo.kind == "lora" else []
        card["tags"] = [*extra, *repo.topics]
    if repo.library and repo.index % 2:
        card["library_name"] = repo.library
    if repo.pipeline_tag:
        card["pipeline_tag"] = repo.pipeline_tag
    datasets = [tag.removeprefix("dataset:") for tag in repo.tags if tag.startswith("dataset:")]
    if datasets:
        card["datasets"] = datasets
    if repo.kind == "lora":
        card["instance_prompt"] = trigger_of(repo)
    if repo.gated:
        card["extra_gated_prompt"] = "You agree to use this model for good."
        card["extra_gated_fields"] = {"Company": "text", "I agree": "checkbox"}
    if repo.special == "large_card":
        card["widget"] = [{"text": f"example {number} " + "x" * 60} for number in range(400)]
        card["model-index"] = [{"name": repo.name, "results": []}]
    return card or None


def trigger_of(repo: Repo) -> str:
    return f"{repo.family.replace('-', '')[:4]}_{code_of(repo.index)}"


def readme(repo: Repo, edit: int, random_bits: int) -> str:
    """README.md as it stands after that many edits."""
    language = repo.languages[0] if repo.languages else "en"
    sentences = hf_words.CARDS.get(language, hf_words.CARDS["en"])
    heading, usage = hf_words.HEADINGS.get(language, hf_words.HEADINGS["en"])
    lines: list[str] = []
    card = card_data(repo)
    if card is not None:
        lines += ["---", *_yaml(card), "---", ""]
    lines += [f"# {repo.name.rpartition('/')[2]}", "", f"## {heading}", ""]
    for place in range(2 + random_bits % 9):
        text = sentences[(random_bits >> 4 * place) % len(sentences)]
        lines.append(text.format(n=100 + random_bits % 9000, t=trigger_of(repo)))
    lines += ["", f"## {usage}", "", "```python", f'load("{repo.name}")', "```", ""]
    lines.append(f"<!-- edit {edit} -->\n")
    return "\n".join(lines)


def _yaml(card: Json) -> list[str]:
    lines: list[str] = []
    for key, value in card.items():
        if isinstance(value, list) and all(isinstance(inner, str) for inner in value):
            lines += [f"{key}:", *(f"- {inner}" for inner in value)]
        elif isinstance(value, dict):
            lines += [f"{key}:", *(f"  {name}: {inner}" for name, inner in value.items())]
        elif isinstance(value, str):
            lines.append(f"{key}: {value}")
    return lines
