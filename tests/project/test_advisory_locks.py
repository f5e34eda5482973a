import re

from mailing.translations import PACKAGE


def test_no_two_parts_of_the_product_share_the_number_of_an_advisory_lock() -> None:
    sources = (path.read_text("utf-8") for path in PACKAGE.rglob("*.py"))
    numbers = [number for source in sources for number in re.findall(r"advisory_xact_lock\((\d+)\)", source)]
    assert len(numbers) > 1
    assert sorted(set(numbers)) == sorted(numbers)
