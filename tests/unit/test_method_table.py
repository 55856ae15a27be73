"""The tables of the protocol agree with one another, with the daemon, and with what is emitted."""

import ast
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from modelkeep_protocol import events, methods, schema
from modelkeepd.rpc.server import RpcService
from tests.fakes.rpc import all_handlers
from tests.protocol.examples import example

DAEMON = Path(__file__).parents[2] / "daemon" / "modelkeepd"
CONSTANTS = {name: value for name, value in vars(methods).items() if name.isupper()}
STRUCTS = [
    value
    for value in vars(schema).values()
    if isinstance(value, type) and issubclass(value, Struct) and value is not Struct
]


def test_the_constants_are_the_methods() -> None:
    assert set(CONSTANTS.values()) == set(schema.METHODS)
    assert len(CONSTANTS) == len(schema.METHODS)
    for name, value in CONSTANTS.items():
        assert name == value.upper().replace(".", "_")


@pytest.mark.parametrize("method", schema.METHODS.values(), ids=lambda method: str(method.name))
def test_a_method_is_named_and_explained(method: schema.Method) -> None:
    assert re.fullmatch(r"[a-z]+\.[a-z]+", method.name)
    assert method.doc.endswith((".", "?"))
    assert re.fullmatch(r"1\.\d+", method.since)


@pytest.mark.parametrize("method", schema.METHODS.values(), ids=lambda method: str(method.name))
def test_unknown_fields_are_ignored_and_wrong_ones_named(method: schema.Method) -> None:
    params = msgspec.to_builtins(example(method.params))
    assert schema.decode_params(method, {**params, "later": 1}) == example(method.params)
    for name in params:
        with pytest.raises(msgspec.ValidationError, match=rf"\$\.{name}"):
            schema.decode_params(method, {**params, name: b"bytes"})


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: str(struct.__name__))
def test_a_struct_is_documented_frozen_and_open_to_later_fields(struct: Any) -> None:
    assert struct.__doc__
    assert struct.__doc__.strip().endswith(".")
    assert struct.__struct_config__.frozen
    assert not struct.__struct_config__.forbid_unknown_fields
    assert struct.__struct_config__.tag is None


def test_every_struct_is_used() -> None:
    """What nothing asks or answers is not part of the protocol."""
    from tests.protocol.reference import structs

    assert {struct.__name__ for struct in STRUCTS} == {struct.__name__ for struct in structs()}


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: str(struct.__name__))
def test_texts_and_lists_that_come_from_clients_are_bounded(struct: Any) -> None:
    """Not that msgpack would let more in, but so that a handler knows what it may get."""
    if struct not in {method.params for method in schema.METHODS.values()}:
        return
    shape = msgspec.inspect.type_info(struct)
    assert isinstance(shape, msgspec.inspect.StructType)
    for field in shape.fields:
        info = field.type
        if isinstance(info, msgspec.inspect.StrType | msgspec.inspect.ListType):
            assert info.max_length is not None, f"{struct.__name__}.{field.name}"
        if isinstance(info, msgspec.inspect.IntType):
            assert info.ge is not None, f"{struct.__name__}.{field.name}"
            assert info.le is not None, f"{struct.__name__}.{field.name}"


def test_streams_and_only_they_are_handed_a_stream(tmp_path: Path) -> None:
    service = RpcService(tmp_path / "rpc.sock", "e", all_handlers())
    assert [method.name for method in schema.METHODS.values() if method.stream] == [
        methods.EVENTS_WATCH
    ]
    assert set(service._handlers) == set(schema.METHODS)


def test_the_topics_are_those_released() -> None:
    assert list(events.TOPICS) == ["model", "library", "transfer", "sync", "metrics", "node"]
    assert set(events.KINDS) == set(events.TOPICS)
    for kinds in events.KINDS.values():
        for kind, meaning in kinds.items():
            assert re.fullmatch(r"[a-z_]+(\.[a-z]+)?", kind)
            assert re.match(r"an? [a-z]+: ", meaning), "the subject is named first"


def emitted() -> list[tuple[str, str, str]]:
    """(place, topic, kind) of each event the source can emit.

    A kind that is not written out at the call is one of the texts in that file that look like one.
    """
    found = []
    for file in sorted(DAEMON.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        texts = {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        for node in ast.walk(tree):
            if not (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "emit"
            ):
                continue
            place = f"{file.name}:{node.lineno}"
            topic, kind = node.args[:2]
            assert isinstance(topic, ast.Constant), f"{place}: a topic is written out"
            assert isinstance(topic.value, str)
            if isinstance(kind, ast.Constant):
                kinds = {str(kind.value)}
            else:
                known = set(events.KINDS[topic.value])
                prefixes = {each.partition(".")[0] for each in known}
                dotted = rf"({'|'.join(prefixes)})\.[a-z]+"
                kinds = {t for t in texts if t in known or re.fullmatch(dotted, t)}
                assert kinds, f"{place}: which kinds?"
            found += [(place, topic.value, kind) for kind in sorted(kinds)]
    return found


def test_every_event_that_is_emitted_is_in_the_table() -> None:
    found = emitted()
    assert len(found) > 15
    unknown = [each for each in found if each[2] not in events.KINDS.get(each[1], {})]
    assert not unknown


def test_every_kind_in_the_table_is_emitted() -> None:
    known = {(topic, kind) for topic, kinds in events.KINDS.items() for kind in kinds}
    assert known - {(topic, kind) for _, topic, kind in emitted()} == set()
