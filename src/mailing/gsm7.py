"""The alphabet of GSM-7 (3GPP TS 23.038)."""

from typing import Final

GSM7_BASIC: Final = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡"
    "ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM7_EXTENDED: Final = frozenset("\f^{}\\[~]|€")  # two units each

_GSM7: Final = GSM7_BASIC | GSM7_EXTENDED


def is_gsm7(text: str) -> bool:
    return _GSM7.issuperset(text)
