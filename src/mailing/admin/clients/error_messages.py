"""The words for refused fields of a client."""

from collections.abc import Iterable, Mapping

from mailing.admin.viewer import Viewer
from mailing.errors import FieldError
from mailing.reasons.refusals import RefusedField


def message_of(viewer: Viewer, error: FieldError) -> str:
    return error.refusal.words(viewer.language) if isinstance(error, RefusedField) else error.message


def by_field(viewer: Viewer, errors: Iterable[FieldError]) -> Mapping[str, str]:
    """Each with the field's name, because the summary stands apart from the fields."""
    labels = {
        "phone": viewer.gettext("Phone"),
        "operator_code": viewer.gettext("Operator code"),
        "tag": viewer.gettext("Tag"),
        "timezone": viewer.gettext("Time zone"),
    }
    return {error.field: f"{labels.get(error.field, error.field)}: {message_of(viewer, error)}" for error in errors}
