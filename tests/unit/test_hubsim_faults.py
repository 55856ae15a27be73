"""The script of faults: which request is hit, in which order, and what cannot be said."""

import pytest

from tests.hubsim.fault_actions import AFTERWARDS, FIRST
from tests.hubsim.faults import Faults
from tests.hubsim.messages import Request


def get(target="/api/v1/models", *, storage=False, **headers):
    return Request("GET", target, list(headers.items()), storage=storage)


def hits(faults, requests):
    return [fault and next(iter(fault.do)) for fault in map(faults.take, requests)]


def test_faults_are_consumed_in_order_and_then_gone():
    faults = Faults()
    faults.add("/api/v1/models", {"status": 500}, times=2)
    faults.add("/api/v1/models", "html200")
    assert hits(faults, [get()] * 4) == ["status", "status", "html200", None]


def test_nth_after_and_for_ever():
    assert hits(Faults([{"match": {"nth": 2}, "do": "html200"}]), [get()] * 3) == [
        None,
        "html200",
        None,
    ]
    after = Faults([{"match": {"after": 1, "times": 0}, "do": "html200"}])
    assert hits(after, [get()] * 4) == [None, "html200", "html200", "html200"]


def test_only_fitting_requests_count():
    faults = Faults()
    faults.add("/api/*/models", "html200", storage=False, nth=2)
    other = get("/other")
    stored = get(storage=True)
    assert hits(faults, [get(), other, stored, get()]) == [None, None, None, "html200"]


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        ({"regex": "cursor=.*7"}, get("/api/v1/models?cursor=17")),
        ({"method": "get"}, get()),
        ({"range": True}, get(range="bytes=0-")),
        ({"storage": True}, get(storage=True)),
    ],
)
def test_each_word_of_match(match, fits):
    faults = Faults([{"match": {**match, "times": 0}, "do": "html200"}])
    misses = Request("POST", "/api/v1/models", [])
    assert hits(faults, [fits]) == ["html200"]
    assert hits(faults, [misses]) == [None]


def test_chance_is_seeded_and_unlimited():
    def run(seed):
        faults = Faults([{"match": {"chance": 0.2}, "do": "html200"}], seed)
        return [found is not None for found in map(faults.take, [get()] * 300)]

    assert run(1) == run(1) != run(2)
    assert 30 < sum(run(1)) < 90


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"match": {"paht": "/"}, "do": "html200"}, "unknown word in match: paht"),
        ({"do": {"explode": 1}}, "unknown fault: explode"),
        ({"match": {}}, "a fault is"),
        ({"do": "html200", "when": 1}, "a fault is"),
    ],
)
def test_what_is_not_understood_is_refused(spec, reason):
    with pytest.raises(ValueError, match=reason):
        Faults([spec])


def test_every_fault_is_in_the_readme():
    from pathlib import Path

    import tests.hubsim

    readme = Path(tests.hubsim.__file__).with_name("README.md").read_text()
    assert [word for word in {*FIRST, *AFTERWARDS} if f"`{word}`" not in readme] == []
