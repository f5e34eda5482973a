"""Everything the product refuses on purpose, in one tree.

    MailingError
    ├── ConfigurationError   settings or command line: the process does not start
    ├── EmbeddedError        the embedded PostgreSQL can't be started
    ├── Invalid              input with one FieldError per bad field
    ├── NotFound             no such client, mailing, message …
    ├── Conflict             the state or a unique value forbids it
    ├── TooSlow              a body that does not arrive
    ├── KeyReused            the Idempotency-Key belongs to another request
    ├── Unauthorized         no key, or a key nobody issued; a name and a password that don't fit
    ├── Forbidden            a key that may not do this
    ├── Unavailable          the database broke off what was asked; the sentence says what has become of it
    └── TooMany              tried too often: come again in `wait_s` seconds

None of them knows HTTP: `web.py` holds the one table that does. Each message is a sentence for the caller
and names the remedy; none carries a phone, a text or a secret.
"""

import msgspec


class MailingError(Exception):
    pass


class ConfigurationError(MailingError):
    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class EmbeddedError(MailingError):
    pass


class FieldError(msgspec.Struct, frozen=True):
    """`field` is the path in the caller's input, such as `filter.tags.0`."""

    field: str
    message: str


class Invalid(MailingError):
    def __init__(self, *errors: FieldError) -> None:
        super().__init__("; ".join(f"{error.field}: {error.message}" for error in errors))
        self.errors = list(errors)


class NotFound(MailingError):
    pass


class Conflict(MailingError):
    """`errors` names the fields whose value is taken, if that is the reason."""

    def __init__(self, message: str, *errors: FieldError) -> None:
        super().__init__(message)
        self.errors = list(errors)


class TooSlow(MailingError):
    pass


class KeyReused(MailingError):
    pass


class Unauthorized(MailingError):
    pass


class Forbidden(MailingError):
    pass


class Unavailable(MailingError):
    pass


class TooMany(MailingError):
    def __init__(self, message: str, *, wait_s: int) -> None:
        super().__init__(message)
        self.wait_s = wait_s
