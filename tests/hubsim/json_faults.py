"""Faults inside a JSON answer: values set, keys removed or called otherwise.

A place is a path of keys and positions, `items.0.name`; a `*` stands for every element or value.
What an answer does not have is left alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.hubsim.bytes import BytesBody, read_all
from tests.hubsim.messages import Request, Response


def _inside(value: object, key: str) -> list[object]:
    if isinstance(value, list):
        if key == "*":
            return value
        return [value[int(key)]] if key.isdigit() and int(key) < len(value) else []
    if isinstance(value, dict):
        return list(value.values()) if key == "*" else [value[key]] if key in value else []
    return []


def _holders(tree: object, where: str) -> Iterator[tuple[Any, str]]:
    """What holds a place, and the last key of it, for all places that fit."""
    *path, last = where.split(".")
    found = [tree]
    for key in path:
        found = [inner for value in found for inner in _inside(value, key)]
    for holder in found:
        if isinstance(holder, dict | list):
            yield holder, last


def _changed(response: Response, tree: object) -> Response:
    response.body = BytesBody(json.dumps(tree).encode())
    return response


def set_json(request: Request, response: Response, args: object) -> Response:
    """`{"items.0.id": "abc"}`; a key that is not there yet is made."""
    if response.status != 200 or not isinstance(args, Mapping):
        return response
    tree = json.loads(read_all(response.body))
    for where, value in args.items():
        for holder, key in _holders(tree, str(where)):
            if isinstance(holder, dict):
                for name in list(holder) if key == "*" else [key]:
                    holder[name] = value
            elif key == "*":
                holder[:] = [value] * len(holder)
            elif key.isdigit() and int(key) < len(holder):
                holder[int(key)] = value
    return _changed(response, tree)


def drop_json(request: Request, response: Response, args: object) -> Response:
    """`["*.cardData", "items.0.tags"]`: keys that are gone."""
    if response.status != 200:
        return response
    tree = json.loads(read_all(response.body))
    for where in args if isinstance(args, list) else [args]:
        for holder, key in _holders(tree, str(where)):
            if isinstance(holder, dict):
                holder.pop(key, None)
    return _changed(response, tree)


def rename_json(request: Request, response: Response, args: object) -> Response:
    """`{"items": "results", "items.*.name": "title"}`: keys that are called otherwise."""
    if response.status != 200 or not isinstance(args, Mapping):
        return response
    tree = json.loads(read_all(response.body))
    # The deepest first: a place is said in the old names.
    for where in sorted(map(str, args), key=lambda path: -path.count(".")):
        for holder, key in _holders(tree, where):
            if isinstance(holder, dict) and key in holder:
                renamed = {str(args[where]) if k == key else k: v for k, v in holder.items()}
                holder.clear()
                holder.update(renamed)
    return _changed(response, tree)
