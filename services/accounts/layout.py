"""The exports and imports of the accounts: for the embedded server, as nsc commands, and as a single account.

Streams and buckets are in DATA, programs that answer requests in SERVICES, dashboards and browsers in APP.
A client that may create a consumer can choose any deliver subject in the stream's account, so no program
answers requests in DATA. docs/accounts.md has the picture.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from services.accounts.roles import INBOX, OWN_INBOX, Role, Roles, reading

DOMAIN = "data"
"""The domain by which APP and SERVICES reach DATA's JetStream."""
API = f"$JS.{DOMAIN}.API"
"""Its API prefix there."""
SERVICES_INBOX = "_INBOX_services"
"""Prefix of all inboxes of SERVICES."""
DASHBOARD = Role(
    "dashboard", streams=("*",), services=("*",), publish=("history.>", "workflow-start.>", "comparison.>")
)
"""The app without sign-in: an analyst's permissions, and permission to start workflows."""
BROKER = Role("broker", publish=("tokens.mint",))
"""The app with sign-in: requests tokens for viewers' roles."""
ACCOUNTS = ("sys", "data", "services", "app")

_FLOW = "$JS.FC.>"
_DIRECT = ".DIRECT.GET."  # answers with many messages


@dataclass(frozen=True)
class Export:
    """One export of an account."""

    kind: Literal["service", "stream"]
    subject: str
    users: tuple[str, ...]
    """The accounts that import it."""
    many: bool = False
    """True if a request gets many replies."""
    local: str = ""
    """Its subject in the importing account; empty: the same."""


def _api(*subjects: str, users: tuple[str, ...]) -> list[Export]:
    """Exports of JetStream API subjects. Importers see them under the domain's prefix."""
    return [
        Export("service", subject, users, _DIRECT in subject, subject.replace("$JS.API", API, 1))
        for subject in subjects
    ]


_READING = [subject for subject in reading("*", "$JS.API") if subject != _FLOW]

EXPORTS: Mapping[str, Sequence[Export]] = {
    "data": (
        *_api(*_READING, users=("app", "services")),
        Export("service", _FLOW, ("app", "services")),
        *_api("$JS.API.STREAM.PURGE.*", "$JS.API.STREAM.MSG.DELETE.*", users=("app",)),
        Export("service", "$KV.thresholds.>", ("app",)),
        *_api("$JS.API.STREAM.CREATE.WORKFLOWS", users=("services",)),
        Export("service", "workflow.>", ("services",)),
        Export("service", "workflow-heartbeat.>", ("services",)),
        Export("stream", f"{INBOX}.>", ("app",)),
        Export("stream", f"{SERVICES_INBOX}.>", ("services",)),
        Export("stream", "metrics.>", ("app",)),
    ),
    "services": (
        Export("service", "history.>", ("app",), many=True),
        Export("service", "workflow-start.>", ("app",)),
        Export("service", "tokens.mint", ("app",)),
        Export("service", "comparison.>", ("app",)),
        Export("service", "$SRV.>", ("app",), many=True),
    ),
}
"""The exports of each account."""


def imports(account: str) -> list[tuple[str, Export]]:
    """The imports of an account: pairs of the exporting account's name and the export."""
    return [(owner, each) for owner, exports in EXPORTS.items() for each in exports if account in each.users]


def in_words() -> str:
    """The exports and imports as text, one per line."""
    lines = []
    for account, exports in EXPORTS.items():
        lines += ["", f"{account.upper()} exports"]
        for each in exports:
            many = "   many answers to one request" if each.many else ""
            lines.append(f"  {each.kind}  {each.subject}{many}")
    for account in ACCOUNTS:
        if found := imports(account):
            lines += ["", f"{account.upper()} imports"]
        for owner, each in found:
            local = f"   as {each.local}" if each.local else ""
            lines.append(f"  {each.kind}  {owner.upper()}: {each.subject}{local}")
    return "\n".join(lines[1:])


def as_nsc(roles: Roles) -> str:
    """The accounts, exports, imports and roles as `nsc` commands, for your own operator."""
    lines = ["nsc add operator lookback --sys"]
    lines += [f"nsc add account {name.upper()}" for name in ACCOUNTS if name != "sys"]
    limits = ("mem-storage", "disk-storage", "streams", "consumer")
    lines.append(f"nsc edit account DATA {' '.join(f'--js-{limit} -1' for limit in limits)}")
    for owner, exports in EXPORTS.items():
        for each in exports:
            many = " --response-type Stream" if each.many else ""
            service = " --service" if each.kind == "service" else ""
            lines.append(
                f"nsc add export --account {owner.upper()} --subject '{each.subject}'{service}{many}"
            )
    for account in ACCOUNTS:
        for owner, each in imports(account):
            what = f"--remote-subject '{each.subject}' --local-subject '{each.local or each.subject}'"
            service = " --service" if each.kind == "service" else ""
            lines.append(
                f"nsc add import --account {account.upper()} --src-account {owner.upper()} {what}{service}"
            )
    for role in roles.roles.values():
        lines.append(f"nsc edit signing-key --account APP --sk generate --role {role.name} \\")
        (verb, subjects), *_ = role.permissions(API)["pub"].items()
        lines.append(f"  --{verb}-pub '{','.join(subjects)}' \\")
        for_web_pages = " --bearer --conn-type WEBSOCKET" if role.web_page else ""
        lines.append(f"  --allow-sub '{OWN_INBOX}'{for_web_pages}")
    return "\n".join(lines)


def as_users(roles: Roles) -> str:
    """The roles as users of a server with a single account: a complete nats-server.conf."""
    lines = [
        "jetstream { store_dir: jetstream }",
        "authorization {",
        "  users: [",
        "    # the programs, and administrators: no limits",
        '    { user: programs, password: "change-programs" }',
    ]
    for role in (*(role for role in roles.roles.values() if not role.web_page), DASHBOARD):
        (verb, subjects), *_ = role.permissions()["pub"].items()
        lines += [
            f'    {{ user: {role.name}, password: "change-{role.name}", permissions: {{',
            f"        publish: {{ {verb}: [",
            *(f'          "{subject}"' for subject in subjects),
            "        ] }",
            f'        subscribe: {{ allow: "{INBOX}.{role.name}.>" }}',
            "    } }",
        ]
    return "\n".join([*lines, "  ]", "}"])
