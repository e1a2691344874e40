"""Decodes Protobuf, with the types of a descriptor set: `protobuf:TYPE@FILE`.

The file is what `protoc --include_imports --descriptor_set_out=FILE` or `buf build -o FILE` writes. Subjects
can have different types: `protobuf:orders.*.new=shop.Order,orders.>=shop.Event@shop.desc`. The first pattern
that matches decides.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from ..errors import SettingsError, one_of
from ..subjects import check_filter, matches
from .decoder import Decoder, Headers
from .plain_values import iso_of_ns, plain
from .schema_files import FileVersion, file_version, files_with, read_schema, schema_file

ENDINGS = (".desc", ".binpb", ".pb", ".protoset")
EXAMPLE = "'protobuf:shop.Order@shop.desc'"
MOST_OFFERED = 50
"""Types of descriptor sets that Explore offers."""


def protobuf_of(options: str) -> Decoder:
    """The decoder for `TYPE@FILE`, or `PATTERN=TYPE,…@FILE`. Raises SettingsError."""
    types, _, name = options.rpartition("@")
    if not types or not name:
        raise SettingsError(f"The decoder 'protobuf' needs a type and a file, such as {EXAMPLE}.")
    classes = _classes(name, file_version(schema_file(name, *ENDINGS)))
    chosen: list[tuple[str, Any]] = []
    for each in types.split(","):
        pattern, _, wanted = each.strip().rpartition("=")
        found = classes.get(wanted)
        if found is None:
            raise SettingsError(
                f"There is no type {wanted!r} in {name!r}. " + one_of(wanted, classes, what="type")
            )
        chosen.append((check_filter(pattern) if pattern else ">", found))

    def message(payload: bytes, subject: str, headers: Headers) -> Any:
        for pattern, kind in chosen:
            if matches(subject, pattern):
                return _read(kind, payload)
        raise ValueError(f"no type for the subject {subject[:100]!r}")

    return Decoder(_unconfigured, message=message)


def offered() -> list[str]:
    """Names of decoders, one for each type of the descriptor sets in the folder."""
    names: list[str] = []
    for file in files_with(*ENDINGS):
        try:
            types = sorted(_classes(file.name, file_version(file)))
        except SettingsError:
            continue
        names += [f"protobuf:{each}@{file.name}" for each in types if not each.startswith("google.protobuf.")]
    return names[:MOST_OFFERED]


def _unconfigured(payload: bytes) -> Any:
    raise ValueError(f"Protobuf needs a type and a file, such as {EXAMPLE}")


@lru_cache(maxsize=32)
def _classes(name: str, _: FileVersion) -> dict[str, Any]:
    """The message classes of a descriptor set, by the types' full names."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # loaded only when used

    files = descriptor_pb2.FileDescriptorSet()
    try:
        files.ParseFromString(read_schema(schema_file(name, *ENDINGS)))
        pool = descriptor_pool.DescriptorPool()
        left = {each.name: each for each in files.file}
        for each in files.file:
            for needed in each.dependency:
                if needed not in left and needed.startswith("google/protobuf/"):
                    left[needed] = _well_known(needed)
        while left:
            ready = [each for each in left.values() if not set(each.dependency) & left.keys()]
            if not ready:
                raise ValueError("imports go round in a circle")
            for each in ready:
                pool.Add(each)
                del left[each.name]
        found: dict[str, Any] = {}
        for each in files.file:
            top = pool.FindFileByName(each.name).message_types_by_name.values()
            _collect(list(top), found)
        return {key: message_factory.GetMessageClass(kind) for key, kind in found.items()}
    except SettingsError:
        raise
    except Exception as error:
        raise SettingsError(
            f"{name!r} is not a complete descriptor set: {str(error)[:200]}. "
            "Write it with protoc --include_imports --descriptor_set_out."
        ) from None


def _collect(kinds: list[Any], found: dict[str, Any]) -> None:
    while kinds:
        kind = kinds.pop()
        if not kind.GetOptions().map_entry:
            found[kind.full_name] = kind
            kinds += kind.nested_types


def _well_known(name: str) -> Any:
    """The description of a file that comes with the library."""
    import importlib

    from google.protobuf import descriptor_pb2

    base = name.removeprefix("google/protobuf/").removesuffix(".proto")
    if not base.isidentifier():
        raise ValueError(f"the file {name!r} is missing")
    module = importlib.import_module(f"google.protobuf.{base}_pb2")
    found = descriptor_pb2.FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(found)
    return found


def _read(kind: Any, payload: bytes) -> Any:
    message = kind()
    try:
        message.ParseFromString(payload)
    except Exception as error:
        raise ValueError(f"not a {kind.DESCRIPTOR.full_name}: {str(error)[:100]}") from None
    if payload and not message.ListFields():
        message.DiscardUnknownFields()
        if not message.ByteSize():
            raise ValueError(f"none of its fields is one of {kind.DESCRIPTOR.full_name}")
    return plain(_object(message))


def _object(message: Any) -> Any:
    """A message as a value as in JSON. Unlike in Protobuf's own mapping to JSON, integers stay numbers."""
    special = _SPECIAL.get(message.DESCRIPTOR.full_name)
    if special is not None:
        return special(message)
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            continue
        value = getattr(message, field.name)
        if field.is_repeated:
            entry = field.message_type
            if entry is not None and entry.GetOptions().map_entry:
                kind = entry.fields_by_name["value"]
                found[field.name] = {str(key): _value(kind, value[key]) for key in value}
            else:
                found[field.name] = [_value(field, item) for item in value]
        else:
            found[field.name] = _value(field, value)
    return found


def _value(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return _object(value)
    if field.enum_type is not None:
        named = field.enum_type.values_by_number.get(value)
        return named.name if named is not None else str(value)
    return value


def _time(message: Any) -> Any:
    return iso_of_ns(message.seconds * 10**9 + message.nanos) or f"{message.seconds} s"


def _duration(message: Any) -> float:
    return float(message.seconds + message.nanos / 1e9)


def _wrapped(message: Any) -> Any:
    return message.value


def _struct(message: Any) -> Any:
    return {key: _any_value(message.fields[key]) for key in message.fields}


def _list(message: Any) -> Any:
    return [_any_value(each) for each in message.values]


def _any_value(message: Any) -> Any:
    which = message.WhichOneof("kind")
    if which in (None, "null_value"):
        return None
    held = getattr(message, which)
    if which == "struct_value":
        return _struct(held)
    return _list(held) if which == "list_value" else held


_SPECIAL: dict[str, Callable[[Any], Any]] = {
    "google.protobuf.Timestamp": _time,
    "google.protobuf.Duration": _duration,
    "google.protobuf.Struct": _struct,
    "google.protobuf.Value": _any_value,
    "google.protobuf.ListValue": _list,
    **{
        f"google.protobuf.{kind}Value": _wrapped
        for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
    },
}
PROTOBUF = Decoder(_unconfigured, needs_options=True, configured=protobuf_of)
