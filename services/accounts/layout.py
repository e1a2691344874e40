"""What the accounts let each other use, and the same for servers that are not the embedded one.

Streams and buckets live in DATA, programs that answer requests in SERVICES, dashboards and browsers in APP.
Whoever may create a consumer picks where it delivers to, within the stream's account: so nothing that listens
is in DATA. docs/accounts.md has the picture.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from services.accounts.roles import INBOX, OWN_INBOX, Role, Roles, reading

DOMAIN = "data"
"""What APP and SERVICES call DATA's JetStream."""
API = f"$JS.{DOMAIN}.API"
"""What they call its API."""
SERVICES_INBOX = "_INBOX_services"
"""Root of the inboxes of SERVICES."""
DASHBOARD = Role(
    "dashboard", streams=("*",), services=("*",), publish=("history.>", "workflow-start.>", "comparison.>")
)
"""The app without sign-in: the rights of an analyst, and workflows may be started."""
BROKER = Role("broker", publish=("tokens.mint",))
"""The app with sign-in: asks for the tokens of others."""
ACCOUNTS = ("sys", "data", "services", "app")

_FLOW = "$JS.FC.>"


@dataclass(frozen=True)
class Export:
    """What an account lets others use."""

    kind: Literal["service", "stream"]
    subject: str
    users: tuple[str, ...]
    """The accounts that import it."""
    many: bool = False
    """Whether a request has many answers."""
    local: str = ""
    """What it is called where it is imported; empty: the same."""


def _api(*subjects: str, users: tuple[str, ...]) -> list[Export]:
    """Subjects of JetStream's API, which importers have under the domain's name."""
    return [
        Export("service", subject, users, local=subject.replace("$JS.API", API, 1)) for subject in subjects
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
"""What each account exports, and to whom."""


def imports(account: str) -> list[tuple[str, Export]]:
    """What an account imports, and from which."""
    return [(owner, each) for owner, exports in EXPORTS.items() for each in exports if account in each.users]


def in_words() -> str:
    """The exports and imports as a text, one a line."""
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
    """The same for an operator of your own, as commands of `nsc`."""
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
    """The roles as users of a server with a single account: a whole nats-server.conf."""
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
