"""Decoders by name, because the name is part of the key by which pages share a feed."""

from ..errors import SettingsError, one_of
from . import avro_payloads, protobuf_payloads
from .agent_payloads import FLUENT_BIT, TELEGRAF
from .arrow_payloads import ARROW
from .auto_payloads import AUTO
from .avro_payloads import AVRO
from .cbor_payloads import CBOR
from .cloudevents_payloads import CLOUDEVENTS
from .csv_payloads import CSV
from .decoder import Decoder
from .json_payloads import JSON
from .line_protocol import LINE_PROTOCOL
from .msgpack_payloads import MSGPACK
from .own_decoders import decoder_file, own_decoder, own_names
from .protobuf_payloads import PROTOBUF
from .schema_files import file_version, files_with
from .text_payloads import TEXT

DECODERS: dict[str, Decoder] = {
    "json": JSON,
    "auto": AUTO,
    "text": TEXT,
    "msgpack": MSGPACK,
    "cbor": CBOR,
    "protobuf": PROTOBUF,
    "avro": AVRO,
    "arrow": ARROW,
    "csv": CSV,
    "influx": LINE_PROTOCOL,
    "telegraf": TELEGRAF,
    "fluentbit": FLUENT_BIT,
    "cloudevents": CLOUDEVENTS,
}
"""Decoders by name. To add one, add a file to this folder and a line here."""
BY_PATH = ("json", "msgpack", "cbor")
"""Decoders whose option is the path of an array."""
LONGEST_NAME = 1000
"""Maximum characters of a decoder's name with its options."""


def decoder_of(name: str) -> Decoder:
    """The decoder with this name, as check_decoder() returns it. Raises SettingsError if there is none."""
    name = name.partition("#")[0]
    if name in DECODERS:
        return DECODERS[name]
    base, colon, options = name.partition(":")
    if not colon:
        return own_decoder(name)
    configured = DECODERS[base].configured
    assert configured is not None
    return configured(options)


def check_decoder(name: str) -> str:
    """Return `name` if there is such a decoder: one of DECODERS, with options after a colon where it takes
    some, or a file of the folder of decoders. If the decoder depends on a file of that folder, the name gets
    the file's modification time after a "#". So after an edit of the file, feeds decode the messages again.
    Raises SettingsError if there is no such decoder, or its options are not valid."""
    if not isinstance(name, str) or len(name) > LONGEST_NAME:
        raise SettingsError(f"A decoder is named by at most {LONGEST_NAME} characters.")
    base, colon, options = name.partition(":")
    found = DECODERS.get(base)
    if found is None:
        if not colon and base in own_names():
            return f"{name}#{file_version(decoder_file(name))[0]:x}"
        known = [*DECODERS, *own_names()]
        raise SettingsError(f"There is no decoder {name!r}. " + one_of(name, known, what="decoder"))
    if not colon and not found.needs_options:
        return name
    if found.configured is None:
        raise SettingsError(f"The decoder {base!r} takes no options after a colon.")
    found.configured(options)
    schemas = files_with(*protobuf_payloads.ENDINGS, *avro_payloads.ENDINGS)
    used = [file for file in schemas if file.name == options.rpartition("@")[2]]
    return f"{name}#{file_version(used[0])[0]:x}" if used else name


def reads_whole(name: str) -> str:
    """The name of the decoder that reads the whole payload: `name` without the path of an array, if it has
    one."""
    base, colon, _ = name.partition(":")
    return base if colon and base in BY_PATH else name


def offered_decoders() -> list[str]:
    """Names of all decoders that a viewer can choose: DECODERS, one for each type and schema of the folder of
    decoders, and the decoders in it."""
    plain = [name for name, each in DECODERS.items() if not each.needs_options]
    return [*plain, *protobuf_payloads.offered(), *avro_payloads.offered(), *own_names()]
