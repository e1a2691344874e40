"""Messages and schemas as other programs write them."""

import datetime as dt
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2

SHOP, ORDER = "shop.desc", "shop.Order"
_FIELD = descriptor_pb2.FieldDescriptorProto


def shop_types() -> descriptor_pb2.FileDescriptorSet:
    """The descriptor set of a shop, as protoc writes it with --include_imports."""
    files = descriptor_pb2.FileDescriptorSet()
    timestamp_pb2.DESCRIPTOR.CopyToProto(files.file.add())
    shop = files.file.add(
        name="shop.proto", package="shop", syntax="proto3", dependency=["google/protobuf/timestamp.proto"]
    )
    state = shop.enum_type.add(name="State")
    for number, name in enumerate(("NEW", "PAID")):
        state.value.add(name=name, number=number)
    item = shop.message_type.add(name="Item")
    _add(item, 1, "name", _FIELD.TYPE_STRING)
    _add(item, 2, "price", _FIELD.TYPE_DOUBLE)
    order = shop.message_type.add(name="Order")
    entry = order.nested_type.add(name="TagsEntry")
    entry.options.map_entry = True
    _add(entry, 1, "key", _FIELD.TYPE_STRING)
    _add(entry, 2, "value", _FIELD.TYPE_STRING)
    _add(order, 1, "id", _FIELD.TYPE_INT64)
    _add(order, 2, "state", _FIELD.TYPE_ENUM, ".shop.State")
    _add(order, 3, "at", _FIELD.TYPE_MESSAGE, ".google.protobuf.Timestamp")
    _add(order, 4, "items", _FIELD.TYPE_MESSAGE, ".shop.Item", many=True)
    _add(order, 5, "tags", _FIELD.TYPE_MESSAGE, ".shop.Order.TagsEntry", many=True)
    _add(order, 6, "raw", _FIELD.TYPE_BYTES)
    _add(order, 7, "count", _FIELD.TYPE_INT32)
    _add(order, 8, "note", _FIELD.TYPE_MESSAGE, ".shop.Item")
    return files


def _add(kind: Any, number: int, name: str, form: Any, named: str = "", *, many: bool = False) -> None:
    label = _FIELD.LABEL_REPEATED if many else _FIELD.LABEL_OPTIONAL
    kind.field.add(name=name, number=number, type=form, label=label, type_name=named or None)


def order_bytes(number: int = 2**60 + 1) -> bytes:
    """An order of the shop."""
    pool = descriptor_pool.DescriptorPool()
    for file in shop_types().file:
        pool.Add(file)
    order = message_factory.GetMessageClass(pool.FindMessageTypeByName(ORDER))()
    order.id, order.state, order.raw = number, 1, b"\x00\xff"
    order.at.FromDatetime(dt.datetime(2026, 1, 2, 3, 4, 5, 678901))
    order.items.add(name="pen", price=1.5)
    order.items.add(name="ink")
    order.tags["eu"] = "yes"
    found: bytes = order.SerializeToString()
    return found


def write_schemas(folder: Path) -> None:
    """Write the descriptor set into a folder of decoders."""
    (folder / SHOP).write_bytes(shop_types().SerializeToString())
