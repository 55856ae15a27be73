"""An example of any Struct of the protocol: every field filled with a value its type allows."""

from typing import Any

import msgspec
from msgspec import inspect


def example(struct: type[msgspec.Struct]) -> msgspec.Struct:
    """The same each time; optional fields are filled as well."""
    return msgspec.convert(_value(inspect.type_info(struct), struct.__name__), struct)


def _value(info: inspect.Type, name: str) -> Any:
    match info:
        case inspect.StructType():
            return {field.encode_name: _value(field.type, field.name) for field in info.fields}
        case inspect.Metadata():
            return _value(info.type, name)
        case inspect.BoolType():
            return True
        case inspect.IntType():
            low = info.ge if info.ge is not None else 0
            return max(low, min(len(name), info.le if info.le is not None else 2**53))
        case inspect.FloatType():
            return 1.5
        case inspect.StrType():
            # a Latin word, a Japanese one, and something that needs no escape but looks so
            return f"{name} 名前 \\n"[: info.max_length]
        case inspect.ListType():
            return [_value(info.item_type, name)] * max(2, info.min_length or 0)
        case inspect.DictType():
            return {"key": _value(info.value_type, name)}
        case inspect.UnionType():
            return _value(next(t for t in info.types if not isinstance(t, inspect.NoneType)), name)
        case inspect.AnyType():
            return {"any": [1, None, 0.5, "x"]}
        case inspect.NoneType():
            return None
    raise NotImplementedError(f"no example for {info}")
