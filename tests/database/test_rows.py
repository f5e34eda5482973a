import msgspec
import pytest

from mailing.database.engine import raw_connection
from mailing.database.rows import records_as
from support.database import Database


class Pair(msgspec.Struct):
    left: int
    right: int


async def test_records_become_structs_only_if_their_columns_are_the_fields_in_order(db: Database) -> None:
    async with db.sessions() as session:
        driver = await raw_connection(session)
        assert records_as(Pair, await driver.fetch('SELECT 1 AS "left", 2 AS "right"')) == [Pair(1, 2)]
        assert records_as(Pair, await driver.fetch('SELECT 1 AS "left", 2 AS "right" WHERE false')) == []
        with pytest.raises(TypeError, match="Pair has other fields"):
            records_as(Pair, await driver.fetch('SELECT 2 AS "right", 1 AS "left"'))
