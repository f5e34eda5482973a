"""All errors that the product raises on purpose, in one tree.

    MailingError
    ├── ConfigurationError   wrong settings or command line: the process does not start
    ├── EmbeddedError        the embedded PostgreSQL cannot be started
    ├── Invalid              invalid input, with one FieldError per field
    ├── NotFound             no such client, mailing, message …
    ├── Conflict             the state or a unique value forbids it
    ├── TooSlow              the request body does not arrive in time
    ├── KeyReused            the Idempotency-Key belongs to another request
    ├── Unauthorized         no key, an unknown key, or a wrong name or password
    ├── Forbidden            the key or the role may not do this
    ├── Unavailable          the database failed; the message says whether anything was stored
    └── TooMany              too many attempts: retry after `wait_s` seconds

They know nothing of HTTP; `web.problems` maps them to responses. Each message is for the caller: what is wrong, then
what to do. None contains a phone, a text or a secret.
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
    """`sentence` has places for `values`, such as `%(id)s`: the admin page translates it before it fills them in."""

    def __init__(self, sentence: str, **values: object) -> None:
        super().__init__(sentence % values)
        self.sentence, self.values = sentence, values


class Conflict(MailingError):
    """`errors` lists the fields whose value is already taken, if that is the reason."""

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
