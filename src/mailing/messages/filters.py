"""A mailing's filter, as conditions on a client `c`: by its values, or by its columns of the mailing `g`."""


def _is_chosen(column: str, values: str) -> str:
    return f"(cardinality({values}) = 0 OR c.{column} = ANY({values}))"


# Unknown, and so not true, for a client without a tag where the filter has tags.
HAS_TAG = _is_chosen("tag", "CAST(:tags AS text[])")
HAS_OPERATOR_CODE = _is_chosen("operator_code", "CAST(:operator_codes AS text[])")
IS_SELECTED = f"{HAS_TAG} AND {HAS_OPERATOR_CODE}"
IS_UNSELECTED = f"({HAS_TAG} IS NOT TRUE OR NOT {HAS_OPERATOR_CODE})"
IS_UNSELECTED_BY_MAILING = (
    f"({_is_chosen('tag', 'g.tags')} IS NOT TRUE OR NOT {_is_chosen('operator_code', 'g.operator_codes')})"
)
