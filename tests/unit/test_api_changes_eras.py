"""The changes that CivitAI's API really went through, found between documents of their times."""

import random

import pytest

from modelkeepd.api_changes.compare import STRUCTURE, Evidence, compare
from modelkeepd.api_changes.reads import reads_of
from modelkeepd.api_changes.shape import Shape
from tests.fakes.api_answers import Json, a_model, answer, learnt, page, recorded

# a dozen recordings of an era are all there are: chance is ruled out less strictly
ENOUGH = Evidence()
FEW = Evidence(before=5, chance=0.02)


def found(before, after, operation="list", evidence=ENOUGH, hub="civitai"):
    changes = compare(
        before, after, reads_of(hub, operation), operation=operation, evidence=evidence
    )
    assert all(change.suggestion for change in changes)
    return {(change.path, change.kind): change.severity for change in changes}


def era(pattern, metadata):
    return learnt([page([document], metadata) for document in recorded(pattern)])


BY_NUMBER = {"totalItems": 9, "currentPage": 1, "pageSize": 1, "totalPages": 9}
BY_CURSOR = {"nextCursor": "37169|338034|122359"}

# what the recordings themselves show: (older, newer) -> (path, kind): severity
RECORDED = {
    ("2023", "2025"): {
        ("items[].allowCommercialUse", "type_changed"): "adopted",
        ("items[].modelVersions[].createdAt", "field_gone"): "degraded",
        ("items[].modelVersions[].updatedAt", "field_gone"): "harmless",
        ("items[].modelVersions[].publishedAt", "field_added"): "adopted",
        ("items[].modelVersions[].earlyAccessTimeFrame", "field_gone"): "harmless",
        ("items[].modelVersions[].images[].nsfw", "field_gone"): "harmless",
        ("items[].modelVersions[].images[].nsfwLevel", "field_added"): "harmless",
        ("items[].modelVersions[].files[].hashes.AutoV3", "field_added"): "harmless",
        ("items[].nsfwLevel", "field_added"): "adopted",
        ("items[].stats.thumbsUpCount", "field_added"): "adopted",
        ("metadata.nextCursor", "field_added"): "adopted",
        ("metadata.totalItems", "field_gone"): "harmless",
    },
    ("2025", "2026"): {
        ("items[].userId", "field_added"): "harmless",
        ("items[].baseModels", "field_added"): "adopted",
        ("items[].modelVersions[].paidAccess", "field_added"): "harmless",
        ("items[].modelVersions[].flags", "field_added"): "harmless",
        ("items[].modelVersions[].files[].overrideName", "field_added"): "harmless",
        ("items[].modelVersions[].files[].metadata.isRequired", "field_added"): "harmless",
        ("items[].stats.favoriteCount", "field_gone"): "degraded",
        ("items[].stats.ratingCount", "field_gone"): "harmless",
        ("items[].modelVersions[].stats.rating", "field_gone"): "harmless",
    },
}


@pytest.fixture(scope="module")
def eras() -> dict[str, Shape]:
    lists_2025 = ("models-list-2025-08-page.json", "model-list-item-2025-*")
    return {
        "2023": era("model-2023-07-*", BY_NUMBER),
        "2024": era("models-list-2024-08-page.json", BY_CURSOR),
        "2025": learnt(
            [page([item], BY_CURSOR) for pattern in lists_2025 for item in recorded(pattern)]
        ),
        # there is one document of 2026, and it is typical
        "2026": learnt([page(recorded("model-list-item-2026-*"), BY_CURSOR)] * 14),
    }


@pytest.mark.parametrize("years", RECORDED, ids="-".join)
def test_what_changed_between_recorded_years_is_found(eras, years):
    older, newer = years
    expected = RECORDED[years]
    changes = found(eras[older], eras[newer], evidence=FEW)
    assert {key: changes.get(key) for key in expected} == expected
    assert "breaking" not in changes.values()


@pytest.mark.parametrize("year", ["2023", "2025"])
def test_a_year_is_no_news_to_itself(year):
    documents = recorded("model-2023-07-*") if year == "2023" else [
        *recorded("models-list-2025-08-page.json"), *recorded("model-list-item-2025-*"),
    ]  # fmt: skip
    random.Random(5).shuffle(documents)
    older, newer = documents[::2], documents[1::2]
    shapes = [learnt([page([d], BY_CURSOR) for d in half]) for half in (older, newer)]
    assert found(*shapes, evidence=Evidence(before=5, chance=0.005)) == {}


def set_commercial(value):
    return lambda model: model.update(allowCommercialUse=value)


def set_cursor(value):
    return {"nextCursor": value}


def set_file(**fields):
    def change(model: Json) -> None:
        for version in model["modelVersions"]:
            for file in version["files"]:
                file.update(fields)

    return change


def add_hash(model):
    for version in model["modelVersions"]:
        for file in version["files"]:
            file["hashes"]["SHA256_12"] = "0123456789AB"


def hide_stats(model):
    model["stats"]["downloadCount"] = None


def drop_ratings(model):
    model["stats"].pop("rating", None)


def add_ratings(model):
    model["stats"]["rating"] = 0


def lists(change=lambda _: None, metadata=None, count=40):
    return [
        page([a_model(2 * i, change), a_model(2 * i + 1, change)], metadata) for i in range(count)
    ]


def errors(status, body, count=40):
    return lists() + [answer(body, status=status) for _ in range(count)]


def version_document(**fields):
    document = recorded("model-version-2024-03-*")[0]
    document.update(fields)
    return [answer(document, operation="version") for _ in range(40)]


URL = "https://{}/api/download/models/1{}"
OLD_CRASH = {"message": "An unexpected error occurred", "error": {}}
NEW_CRASH = {
    "error": "x",
    "message": "An unexpected error occurred",
    "code": "INTERNAL_SERVER_ERROR",
}

# the rows of the chronology that show in what modelkeep asks for: when, before, after, what is seen
CHRONOLOGY = [
    ("2023-12 licence words become an array",
     lists(set_commercial("Sell")), lists(set_commercial(["Sell"])),
     "items[].allowCommercialUse", "type_changed", "adopted"),
    ("2024-03 the totals go",
     lists(metadata=BY_NUMBER), lists(),
     "metadata.totalItems", "field_gone", "harmless"),
    ("2024-03 cursors come",
     lists(metadata=BY_NUMBER), lists(),
     "metadata.nextCursor", "field_added", "adopted"),
    ("2024-03 cursors are dates, then not",
     lists(metadata=set_cursor("2024-03-14T12:00:00.000Z")), lists(metadata=set_cursor("5:6:7")),
     "metadata.nextCursor", "cursor_changed", "degraded"),
    ("2024-05 cursors get bars",
     lists(metadata=set_cursor("5:6:7")), lists(metadata=set_cursor("5|6|7")),
     "metadata.nextCursor", "cursor_changed", "degraded"),
    ("2024-04-26 air is added",
     version_document(), version_document(air="urn:air:sd1:lora:civitai:1@2"),
     "air", "field_added", "harmless"),
    ("2024-08 early access gets an end",
     version_document(), version_document(earlyAccessEndsAt="2024-09-01T00:00:00.000Z"),
     "earlyAccessEndsAt", "field_added", "harmless"),
    ("2025-07-02 errors of another validator",
     errors(400, {"error": {"issues": [{"code": "x"}], "name": "ZodError"}}),
     errors(400, {"error": {"name": "ZodError", "message": "[...]"}}),
     "400: error.issues", "field_gone", "harmless"),
    ("2025-07-24 a region is blocked",
     lists(), errors(451, {"error": "x", "code": "REGION_BLOCKED"}),
     "451", "status_new", "degraded"),
    ("2025-09-24 the version endpoint crashes",
     version_document(),
     [answer({"error": "x"}, operation="version", status=500) for _ in range(40)],
     "500", "status_new", "harmless"),
    ("2025-11-24 licence words become one text",
     lists(set_commercial(["Image"])), lists(set_commercial("{Image}")),
     "items[].allowCommercialUse", "type_changed", "adopted"),
    ("2025-11-24 ratings go",
     lists(add_ratings), lists(drop_ratings),
     "items[].stats.rating", "field_gone", "harmless"),
    ("2026-04-16 the second domain",
     lists(set_file(downloadUrl=URL.format("civitai.com", ""))),
     lists(set_file(downloadUrl=URL.format("civitai.red", ""))),
     "items[].modelVersions[].files[].downloadUrl", "url_shape_changed", "adopted"),
    ("2026-04-22 files are required or not",
     lists(), lists(set_file(isRequired=True)),
     "items[].modelVersions[].files[].isRequired", "field_added", "harmless"),
    ("2026-04-22 new types of file",
     lists(), lists(set_file(type="Vision Encoder")),
     "items[].modelVersions[].files[].type", "enum_value_new", "adopted"),
    ("2026-07-11 a cursor without a date is refused",
     lists(), errors(400, {"error": "Invalid cursor: unparseable"}),
     "400", "status_new", "degraded"),
    ("2026-07-21 hidden counters",
     lists(), lists(hide_stats),
     "items[].stats.downloadCount", "became_nullable", "adopted"),
    ("2026-07-27 the end of early access goes",
     version_document(earlyAccessEndsAt="2024-09-01T00:00:00.000Z"), version_document(),
     "earlyAccessEndsAt", "field_gone", "harmless"),
    ("2026-07-30 paid access comes",
     version_document(), version_document(paidAccess={"permanent": True, "endsAt": None}),
     "paidAccess", "field_added", "harmless"),
    ("2026-08-03 licence words are an array again",
     lists(set_commercial("{Image}")), lists(set_commercial(["Image"])),
     "items[].allowCommercialUse", "type_changed", "adopted"),
    ("2026-08-12 one frame for errors",
     errors(500, OLD_CRASH), errors(500, NEW_CRASH),
     "500: code", "field_added", "harmless"),
    ("2026-08-12 one frame for errors, and its text",
     errors(500, OLD_CRASH), errors(500, NEW_CRASH),
     "500: error", "type_changed", "harmless"),
    ("2026-08-13 addresses of files by id",
     lists(set_file(downloadUrl=URL.format("civitai.com", "?type=Model&format=SafeTensor"))),
     lists(set_file(downloadUrl=URL.format("civitai.com", "?fileId=7"))),
     "items[].modelVersions[].files[].downloadUrl", "url_shape_changed", "adopted"),
    ("2026-08-19 one more digest",
     lists(), lists(add_hash),
     "items[].modelVersions[].files[].hashes.SHA256_12", "field_added", "harmless"),
]  # fmt: skip


@pytest.mark.parametrize("row", CHRONOLOGY, ids=lambda row: row[0])
def test_each_row_of_the_chronology_is_found(row):
    _, before, after, path, kind, severity = row
    operation = after[0].operation
    changes = found(learnt(before), learnt(after), operation)
    assert changes.get((path, kind)) == severity
    assert "breaking" not in changes.values()


# what would stop modelkeep, and has not happened yet
BREAKS = [
    ("no items", lambda body: body.pop("items"), "items", "envelope_changed"),
    ("items renamed", lambda body: body.update(models=body.pop("items")), "items",
     "envelope_changed"),
    ("items are a map", lambda body: body.update(items={"1": {}}), "items", "envelope_changed"),
    ("no metadata", lambda body: body.pop("metadata"), "metadata", "envelope_changed"),
    ("no ids", lambda body: [i.pop("id") for i in body["items"]], "items[].id", "field_gone"),
    ("ids are objects", lambda body: [i.update(id={"v": 1}) for i in body["items"]],
     "items[].id", "type_changed"),
    ("ids are null", lambda body: [i.update(id=None) for i in body["items"]],
     "items[].id", "became_nullable"),
    ("no versions", lambda body: [i.pop("modelVersions") for i in body["items"]],
     "items[].modelVersions", "field_gone"),
    ("no files", lambda body: [v.pop("files") for i in body["items"] for v in i["modelVersions"]],
     "items[].modelVersions[].files", "field_gone"),
]  # fmt: skip


@pytest.mark.parametrize("case", BREAKS, ids=lambda case: case[0])
def test_what_modelkeep_cannot_do_without_breaks(case):
    _, change, path, kind = case

    def samples(spoil):
        for i in range(40):
            body = {"items": [a_model(i)], "metadata": {"nextCursor": "5|6|7"}}
            spoil(body)
            yield answer(body)

    changes = found(learnt(samples(lambda _: None)), learnt(samples(change)))
    assert changes[path, kind] == "breaking"


def test_huggingface_of_2025_against_itself_and_against_a_break():
    def samples(change):
        documents = [d for d in recorded("model-*.json", "huggingface") if "_id" in d]
        for document in [dict(d) for _ in range(4) for d in documents]:
            change(document)
            yield answer(document, hub="huggingface", operation="model")

    def renamed(document):
        document["uid"] = document.pop("_id")

    def undated(document):
        document["lastModified"] = 1_742_563_717

    before = learnt(samples(lambda _: None))
    assert found(before, learnt(samples(lambda _: None)), "model", hub="huggingface") == {}
    changes = found(before, learnt(samples(renamed)), "model", hub="huggingface")
    assert changes["_id", "field_gone"] == "breaking"
    assert changes["uid", "field_added"] == "harmless"
    changes = found(before, learnt(samples(undated)), "model", hub="huggingface")
    assert changes["lastModified", "type_changed"] == "breaking"


# -- chance --------------------------------------------------------------------------------------


def with_share(total, absent):
    return learnt(
        page([a_model(i, lambda m, i=i: m.pop("nsfw") if i < absent else None)])
        for i in range(total)
    )


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((100, 0), (1, 1), False),  # one odd document
        ((300, 1), (3, 3), False),
        ((300, 1), (40, 40), True),
        ((300, 1), (40, 39), False),  # it is still there
        ((10, 0), (40, 40), False),  # too little was known
        ((200, 100), (40, 40), False),  # it never was always there
    ],
)
def test_a_field_is_gone_only_when_chance_is_out_of_the_question(before, after, expected):
    changes = found(with_share(*before), with_share(*after))
    assert (("items[].nsfw", "field_gone") in changes) is expected


def test_a_rare_field_that_turns_up_is_no_news():
    plain = learnt(lists(count=60))
    rare = learnt([*lists(count=30), page([a_model(1, lambda m: m.update(mode="Archived"))])])
    assert found(plain, rare) == {}


def test_a_read_field_that_half_of_the_answers_lack_is_told():
    """As when some of the hub's machines run another program."""

    def unnamed(model):
        model.pop("name")

    changes = found(learnt(lists()), learnt([*lists(count=30), *lists(unnamed, count=30)]))
    assert changes == {("items[].name", "field_rarer"): "degraded"}


def test_values_that_are_known_elsewhere_are_no_news():
    before, after = learnt(lists()), learnt(lists(lambda m: m.update(type="Brand New")))
    reads = reads_of("civitai", "list")
    assert [c.kind for c in compare(before, after, reads)] == ["enum_value_new"]
    assert compare(before, after, reads, known={"Brand New"}) == []


def test_the_difference_of_two_versions_needs_no_numbers():
    one = learnt([page([{"id": 1, "a": 1}])])
    two = learnt([page([{"id": 1, "b": "x"}])])
    changes = found(one, two, evidence=STRUCTURE)
    assert changes == {
        ("items[].a", "field_gone"): "harmless",
        ("items[].b", "field_added"): "harmless",
    }
    assert found(two, two, evidence=STRUCTURE) == {}


def test_changes_are_bounded_and_the_worst_come_first():
    many = {f"n{i:03}": i for i in range(60)}
    before = learnt(lists())
    after = learnt(lists(lambda m: (m.update(many), m.pop("modelVersions"), m.pop("tags"))))
    changes = compare(before, after, reads_of("civitai", "list"))
    severities = [c.severity for c in changes]
    assert severities[:2] == ["breaking", "degraded"]
    assert len(changes) <= 100
