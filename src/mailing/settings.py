"""The settings: one frozen struct, read once from the environment and `.env`, then passed as an argument."""

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from datetime import time
from difflib import SequenceMatcher, get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from mailing.database.address import parse as parse_address
from mailing.env_file import read_env_file
from mailing.errors import ConfigurationError
from mailing.timezones import known_zone
from mailing.urls import is_base, is_loopback, is_public, is_safe

PREFIX = "MAILING_"
DOTENV = Path(".env")  # in the process's working directory
ROLES = ("viewer", "editor", "sender", "admin")

SECRET = re.compile("(key|token|password|secret)$")
PUBLISHED = re.compile("change-?me", re.IGNORECASE)  # in every example file of every version
MIN_SECRET_LENGTH = 6  # characters; a shorter secret would be masked in ordinary words

MAX_GATEWAY_TIMEOUT_S = 60  # the maximum of MAILING_GATEWAY_TIMEOUT_S; the longest lease of a message follows from it

Port = Annotated[int, Meta(ge=1, le=65535)]


# Each is a module of gateway/providers, and one of gateway/sandbox/dialects.
ProviderName = Literal["probe", "kannel", "twilio", "infobip", "smsc"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Each field is the environment variable `MAILING_<FIELD>`; `.env.example` explains each."""

    database_url: str | None = None
    failover: Literal["restore", "lossless"] = "restore"
    data_dir: str = ".data"
    host: str = "127.0.0.1"
    port: Port = 8000
    public_url: str | None = None
    allowed_hosts: str | None = None
    api_key: Annotated[str, Meta(min_length=16)] | None = None
    admin_password: Annotated[str, Meta(min_length=10, max_length=200)] | None = None
    oidc_issuer: str | None = None
    oidc_client_id: str | None = None
    oidc_client_secret: str | None = None
    oidc_groups_claim: str = "groups"
    oidc_roles: str | None = None
    api_rate: Annotated[int, Meta(ge=0, le=100_000)] = 300
    gateway_provider: ProviderName = "probe"
    gateway_url: str | None = None
    gateway_user: str | None = None
    gateway_token: str | None = None
    gateway_timeout_s: Annotated[float, Meta(gt=0, le=MAX_GATEWAY_TIMEOUT_S)] = 10.0
    gateway_rate: Annotated[float, Meta(ge=0, le=100_000)] = 0.0
    gateway_concurrency: Annotated[int, Meta(ge=1, le=1000)] = 64
    opt_out_words: str = "STOP,СТОП,UNSUBSCRIBE,ОТПИСКА,ОТПИСАТЬСЯ"
    sender: str | None = None
    on_unknown: Literal["retry", "hold"] | None = None
    retry_base_s: Annotated[float, Meta(gt=0, le=3600)] = 5.0
    retry_max_s: Annotated[float, Meta(gt=0, le=86400)] = 600.0
    report_to: str | None = None
    report_from: str = "mailing@localhost"
    report_time: str = "09:00"
    report_timezone: str = "UTC"
    report_language: Literal["en", "ru"] = "en"
    smtp_host: str = "127.0.0.1"
    smtp_port: Port = 25
    smtp_user: str | None = None
    smtp_password: str | None = None
    smtp_starttls: bool = False
    retention_days: Annotated[int, Meta(ge=0, le=36_500)] = 0
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "console"


def load(environ: Mapping[str, str], dotenv: Path | None = None) -> Settings:
    """Load the settings. The environment overrides the file; an empty value counts as not set in both.

    Raise ConfigurationError with all problems at once. It repeats no value, because a value may be a secret.
    """
    given, problems = _given(environ, dotenv)
    fields = {PREFIX + field.name.upper(): field for field in msgspec.structs.fields(Settings)}
    problems += [
        f"{_shown(name)} is not a setting{_hint(name, list(fields))}{place}"
        for name, (_, place) in sorted(given.items())
        if name not in fields
    ]
    values = {name: value for name, (value, _) in given.items() if value}
    converted: dict[str, object] = {}
    for name in sorted(values.keys() & fields.keys()):
        try:
            converted[fields[name].name] = msgspec.convert(values[name], fields[name].type, strict=False)
        except msgspec.ValidationError as error:
            problems.append(f"{name}: {_sentence(fields[name].type, error)}{given[name][1]}")
    settings = Settings(**converted)  # type: ignore[arg-type] # each value was converted to its field's type above
    refused = values.keys() - {PREFIX + name.upper() for name in converted}
    problems += [problem for problem in _contradictions(settings) if not any(name in problem for name in refused)]
    if problems:
        raise ConfigurationError(problems)
    return settings


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment from which a child process loads the same settings."""
    values = {PREFIX + name.upper(): value for name, value in msgspec.structs.asdict(settings).items()}
    return {name: str(value) for name, value in values.items() if value is not None}


def environment_names() -> list[str]:
    return [PREFIX + suffix for suffix in sorted(_SUFFIXES)]


def source_of(dotenv: Path) -> str:
    path = dotenv.absolute()
    return f"read from {path} and the environment" if path.exists() else f"from the environment; there is no {path}"


def secrets_of(settings: Settings) -> list[str]:
    """Return all values that no log may show."""
    given = [getattr(settings, field.name) for field in msgspec.structs.fields(Settings) if SECRET.search(field.name)]
    given += parse_address(settings.database_url).secrets if settings.database_url else ()
    return [secret for secret in given if secret and len(secret) >= MIN_SECRET_LENGTH]


def report_clock(settings: Settings) -> time:
    return time.fromisoformat(settings.report_time)


def roles_of_groups(settings: Settings) -> dict[str, str]:
    """Map groups at the identity provider to names of roles."""
    pairs = (pair.rpartition("=") for pair in (settings.oidc_roles or "").split(",") if pair.strip())
    return {group.strip(): role.strip() for group, _, role in pairs}


def names_of_others(dotenv: Path) -> list[str]:
    """List names in the file that are not ours: `.env` may be shared, with Docker Compose for example."""
    return sorted({found.name for found in read_env_file(dotenv)[0] if not _is_meant(found.name)})


def _given(environ: Mapping[str, str], dotenv: Path | None) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Return each name's value and its place in the file, as problems name it, and the problems."""
    assignments, problems = read_env_file(dotenv) if dotenv else ([], [])
    given: dict[str, tuple[str, str]] = {}
    for found in assignments:
        place = f" ({dotenv.name if dotenv else ''} line {found.line})"
        if found.name in given:
            problems.append(f"{_shown(found.name)} is given twice{given[found.name][1]}{place}; keep one of them")
        elif _is_meant(found.name):
            given[found.name] = (found.value, place)
    for name, value in environ.items():
        if _is_meant(name) and (value or name not in given):
            given[name] = (value, "")
    for name, (value, place) in given.items():
        problems += [f"{_shown(name)} {flaw}{place}" for flaw in _flaws_of_value(name, value)]
    return given, problems


_SUFFIXES = frozenset(field.name.upper() for field in msgspec.structs.fields(Settings))


def _is_meant(name: str) -> bool:
    """Whether a name is meant for Mailing, even if it is misspelled.

    Lower case, blanks, invisible characters, `-` or `.` for `_` and a misspelled prefix are refused, not ignored.
    """
    plain = "".join(sign for sign in unicodedata.normalize("NFKC", name) if unicodedata.category(sign)[0] != "C")
    first, _, rest = re.sub(r"\W", "_", plain.strip()).upper().partition("_")
    return first + "_" == PREFIX or (rest in _SUFFIXES and SequenceMatcher(None, first + "_", PREFIX).ratio() > 0.85)


def _shown(name: str) -> str:
    """Make look-alikes and invisible characters of a name visible."""
    return ascii(name)[1:-1]


def _flaws_of_value(name: str, value: str) -> Iterator[str]:
    """Find invisible flaws of a value that crept in on its way here. A password may contain anything."""
    categories = {unicodedata.category(sign): sign for sign in value}
    if "Cs" in categories:
        yield "is not UTF-8"
    elif "Cc" in categories:
        yield f"contains a control character (U+{ord(categories['Cc']):04X})"
    if name.endswith("PASSWORD"):
        return
    for kind in {"Cf", "Zl", "Zp"} & categories.keys():
        yield f"contains an invisible character (U+{ord(categories[kind]):04X})"
    if value != value.strip():
        yield "begins or ends with a blank"
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        yield "is in quotes; write it without them"


def _hint(name: str, known: list[str]) -> str:
    close = get_close_matches(re.sub(r"\W", "_", name.strip()).upper(), known, n=1, cutoff=0.8)
    return f"; did you mean {close[0]}?" if close else "; .env.example lists them all"


def _sentence(kind: Any, error: msgspec.ValidationError) -> str:  # noqa: ANN401 - any type hint
    """Describe the error without the value, which msgspec repeats for an unknown choice."""
    for choice in (kind, *get_args(kind)):  # a choice that may be unset is a union
        if get_origin(choice) is Literal:
            return f"must be {' or '.join(get_args(choice))}"
    return str(error).replace("`", "")


def _contradictions(settings: Settings) -> list[str]:
    """Check what a type cannot express about single values and pairs of values."""
    wrong = [
        f"{name.upper()} must be {rule}"
        for name, (rule, holds) in _FORMS.items()
        if (value := getattr(settings, name)) is not None and not holds(value)
    ]
    wrong += [rule for rule, holds in _PAIRS.items() if not holds(settings)]
    wrong += [f"{name} is a published example; set your own" for name in _published(settings)]
    return [*_flaws_of_address(settings.database_url), *(PREFIX + rule for rule in wrong)]


def _flaws_of_address(database_url: str | None) -> list[str]:
    try:
        if database_url:
            parse_address(database_url)
    except ConfigurationError as error:
        return error.problems
    return []


def _published(settings: Settings) -> list[str]:
    """Find secrets copied from an example file, if other machines can reach the API."""
    url = settings.public_url
    is_reachable = url and not (is_base(url) and is_loopback(urlsplit(url).hostname or ""))
    if is_loopback(settings.host) and not is_reachable and not settings.allowed_hosts:
        return []
    names = [field.name for field in msgspec.structs.fields(Settings) if SECRET.search(field.name)]
    given = {name.upper(): getattr(settings, name) for name in names}
    if settings.database_url and not _flaws_of_address(settings.database_url):
        given["DATABASE_URL's password"] = parse_address(settings.database_url).password
    return [name for name, value in given.items() if value and PUBLISHED.search(value)]


def _printable(value: str) -> bool:
    return value.isascii() and value.isprintable()


def _each(holds: Callable[[str], object]) -> Callable[[str], bool]:
    return lambda values: all(holds(each) for each in values.split(","))


def _address(value: str) -> bool:
    return bool(re.fullmatch(r"[^@\s,;<>]+@[^@\s,;<>]+", value.strip())) and value.isprintable()


_HOST_NAME = re.compile(r"\s*([A-Za-z0-9._-]+|\[?[0-9a-fA-F:.]+\]?)\s*").fullmatch

_FORMS: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "public_url": ("an https:// address such as https://mailing.example.org, in ASCII, and no more", is_public),
    "allowed_hosts": ("names without ports such as mailing.example.org, separated by commas", _each(_HOST_NAME)),
    "api_key": ("printable ASCII", _printable),
    "gateway_url": ("an http:// or https:// address such as https://probe.fbrq.cloud/v1, and no more", is_base),
    "gateway_user": ("printable ASCII without spaces and colons", re.compile(r"[!-9;-~]+").fullmatch),
    "gateway_token": ("printable ASCII", _printable),
    "sender": ("a number, or a name of up to 34 printable ASCII characters", re.compile("[ -~]{1,34}").fullmatch),
    "opt_out_words": ("words such as STOP, separated by commas", _each(re.compile(r"\w").search)),
    "oidc_issuer": ("an https:// address, such as https://id.example.org", is_safe),
    "report_time": ("a time of day such as 09:00", re.compile(r"([01]\d|2[0-3]):[0-5]\d").fullmatch),
    "report_timezone": ("an IANA time zone such as Europe/Moscow", known_zone),
    "report_to": ("addresses such as ops@example.org, separated by commas", _each(_address)),
    "report_from": ("an address such as mailing@example.org", _address),
}

_PAIRS: Mapping[str, Callable[[Settings], bool]] = {
    "OIDC_ISSUER, MAILING_OIDC_CLIENT_ID and MAILING_OIDC_ROLES belong together": lambda its: (
        bool(its.oidc_issuer) == bool(its.oidc_client_id) == bool(its.oidc_roles)
    ),
    "OIDC_ROLES must name the role of each group: viewer, editor, sender or admin; such as ops=admin,*=viewer": (
        lambda its: all(group and role in ROLES for group, role in roles_of_groups(its).items())
    ),
    "RETRY_MAX_S must not be below MAILING_RETRY_BASE_S": lambda its: its.retry_max_s >= its.retry_base_s,
    "SMTP_USER and MAILING_SMTP_PASSWORD belong together": lambda its: bool(its.smtp_user) == bool(its.smtp_password),
}
