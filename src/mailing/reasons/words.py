"""The words for a reason, in the language of the reader."""

from mailing.reasons.codes import Fact, Reason, ReasonCode
from mailing.translations import translations


class _Params(dict[str, Fact]):
    """A missing parameter is shown as a gap instead of failing the page."""

    def __missing__(self, name: str) -> str:
        return "…"


def words_of(reason: Reason | None, language: str = "en") -> str:
    """Render a reason; behind it that of the newest attempt, if it has one. Empty without a reason."""
    if reason is None:
        return ""
    gettext, params = translations(language).gettext, _Params(reason.params)
    codes = [reason.code, *([ReasonCode(str(params["last"]))] if "last" in params else [])]
    return "; ".join(gettext(code.english).format_map(params) for code in codes)
