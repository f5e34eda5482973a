import gzip
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailing.clients.csv_reader import MAX_LINE_BYTES, MAX_LISTED_ERRORS, CsvReader, ParsedRow, RejectedField
from mailing.errors import Invalid

HEADER = b"phone,operator_code,tag,timezone\n"
GOOD = b"79161234567,916,vip,Europe/Moscow\n"
GOOD_ROW = ParsedRow(2, "79161234567", "916", "vip", "Europe/Moscow")


def read(*pieces: bytes) -> tuple[list[ParsedRow], CsvReader]:
    reading = CsvReader()
    rows = [row for piece in pieces for row in reading.feed(piece)]
    return rows + reading.finish(), reading


def rejections(*pieces: bytes) -> list[tuple[int, str]]:
    _, reading = read(*pieces)
    return [(error.line, error.field) for error in reading.rejected_fields]


@pytest.mark.parametrize(
    "file",
    [
        HEADER + GOOD,
        HEADER + GOOD.rstrip(),
        b"\xef\xbb\xbf" + HEADER + GOOD,
        (HEADER + GOOD).replace(b"\n", b"\r\n"),
        (HEADER + GOOD).replace(b"\n", b"\r\n").rstrip(b"\n"),
        b'\xef\xbb\xbf"phone","operator_code","tag","timezone"\r\n"79161234567","916","vip","Europe/Moscow"\r\n',
        b"Phone, OPERATOR_CODE ,tag,timezone\n 79161234567 ,916, vip\t,Europe/Moscow \n",
        b'phone,operator_code,tag,timezone\n79161234567,916, "vip",Europe/Moscow\n',
        b"timezone,tag,phone\nEurope/Moscow,vip,79161234567\n",
        HEADER + GOOD + b"\n  \n,,,\n\r\n",
        HEADER + b"79161234567,,vip,Europe/Moscow\n",
    ],
)
def test_files_as_programs_and_people_write_them_give_the_same_row(file: bytes) -> None:
    rows, reading = read(file)
    assert rows == [GOOD_ROW]
    assert (reading.rejected, reading.rejected_fields) == (0, [])


TABLE = "phone,operator_code,tag,timezone\r\n79161234567,916,Южный,Europe/Moscow\r\n79031234567,903,,UTC\r\n"


@pytest.mark.parametrize("said", ["true", "TRUE", "1", "Yes", " yes "])
def test_a_file_of_opt_outs_alone_needs_no_time_zone(said: str) -> None:
    rows, reading = read(f"phone;opted_out\n79161234567;{said}\n79161234568;\n79161234569;No\n".encode())
    assert [(row.timezone, row.opted_out) for row in rows] == [(None, True), (None, False), (None, False)]
    assert (reading.zoneless, reading.rejected_fields) == (True, [])


@pytest.mark.parametrize(
    ("said", "meant"),
    [*((said, True) for said in ("t", "Y", "Да", "ИСТИНА")), *((said, False) for said in ("f", "n", "НЕТ", "ложь"))],
)
def test_an_opt_out_is_understood_as_databases_and_russian_spreadsheets_write_it(said: str, meant: bool) -> None:
    rows, reading = read(f"phone,timezone,opted_out\n79161234567,UTC,{said}\n".encode())
    assert reading.rejected_fields == []
    assert [row.opted_out for row in rows] == [meant]


def assert_two_columns(file: str) -> None:
    rows, reading = read(file.encode())
    assert reading.columns == ("phone", "timezone")
    assert [row.phone for row in rows] == ["79161234567"]


@pytest.mark.parametrize(
    "header", ["\ufeff\ufeffphone,timezone", "\u200bphone,time\u00adzone\u200e", '"\ufeffphone","Timezone "']
)
def test_invisible_characters_in_the_header_change_no_name(header: str) -> None:
    assert_two_columns(f"{header}\n79161234567,UTC\n")


@pytest.mark.parametrize("said", ["ja", "2", "-", "truetrue"])
def test_an_opt_out_that_is_not_understood_is_an_error(said: str) -> None:
    assert rejections(f"phone,timezone,opted_out\n79161234567,UTC,{said}\n".encode()) == [(2, "opted_out")]


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
@pytest.mark.parametrize(
    ("encoding", "named"),
    [
        *((encoding, "UTF-8") for encoding in ("utf-8", "utf-8-sig")),
        *((encoding, "UTF-16") for encoding in ("utf-16", "utf-16-be", "utf-16-le")),
        ("cp1251", "Windows-1251"),
    ],
)
def test_a_table_as_spreadsheets_save_it_gives_its_rows(end: str, encoding: str, named: str) -> None:
    firsts, cuts = ("", "sep={}\r\n", '"sep={}"\r\n'), (1, 3, 64 * 1024)
    for separator, first, cut in product((",", ";", "\t", "|"), firsts, cuts):
        text = first.format(separator) + TABLE.replace(",", separator)
        file = text.replace("\r\n", end).encode(encoding)
        rows, reading = read(*(file[at : at + cut] for at in range(0, len(file), cut)))
        assert reading.rejected_fields == []
        assert [(row.phone, row.tag) for row in rows] == [("79161234567", "Южный"), ("79031234567", None)]
        assert (reading.delimiter, reading.encoding) == (separator, named)
        assert {row.line for row in rows} == ({3, 4} if first else {2, 3})


@pytest.mark.parametrize("line", ["79161234567,UTC", "79161234567,UTC,", "79161234567,UTC,,", "79161234567,UTC, ,,,"])
def test_empty_columns_are_left_out(line: str) -> None:
    assert_two_columns(f"phone,timezone,,\n{line}\n")


def test_a_file_that_ends_within_a_character_loses_that_line_alone() -> None:
    file = (HEADER + GOOD + GOOD).decode().encode("utf-16")
    rows, reading = read(file[:-3])
    assert [row.line for row in rows] == [2]
    assert [error.line for error in reading.rejected_fields] == [3]


def test_a_value_in_a_column_without_a_name_is_not_dropped_in_silence() -> None:
    _, reading = read(b",phone,timezone,\nx,79161234567,UTC,\n,79161234568,UTC,y\n,79161234569,UTC,\n")
    assert [(error.line, error.refusal.words()) for error in reading.rejected_fields] == [
        (2, "has a value in column 1, which the header does not name"),
        (3, "has a value in column 4, which the header does not name"),
    ]


def test_rows_that_were_rewritten_are_counted() -> None:
    file = HEADER + GOOD + "+7 (903) 123-45-67,, Ю\u0436ны\u0438\u0306 ,UTC\n 79161234568 ,,vip,UTC\n".encode()
    rows, reading = read(file)
    assert [(row.phone, row.tag) for row in rows[1:]] == [("79031234567", "Южный"), ("79161234568", "vip")]
    assert reading.normalised == 1


@pytest.mark.parametrize(
    ("tag", "encoding"),
    [("Café", "cp1252"), ("Südkunde", "cp1252"), ("Южный", "koi8-r"), ("южный", "cp866"), ("ЮЖНЫЙ", "cp866")],
)
def test_another_encoding_is_not_taken_for_windows_1251(tag: str, encoding: str) -> None:
    rows, reading = read(HEADER + f"79161234567,,{tag},UTC\n".encode(encoding) + GOOD)
    assert [error.field for error in reading.rejected_fields] == ["row"]
    assert [row.tag for row in rows] == ["vip"]


def test_a_line_in_another_encoding_than_the_lines_before_is_rejected() -> None:
    south, north = "79161234567,,Южный,UTC\n", "79161234568,,Северный,UTC\n"
    for first, second in (("utf-8", "cp1251"), ("cp1251", "utf-8")):
        rows, reading = read(HEADER, south.encode(first), north.encode(second), south.encode(first))
        assert [row.tag for row in rows] == ["Южный", "Южный"]
        assert [error.line for error in reading.rejected_fields] == [3]


def test_blank_lines_count_as_lines_but_not_as_rows() -> None:
    rows, reading = read(b"\n\n" + HEADER + b"\n" + GOOD + b"8,,,UTC\n")
    assert [row[0] for row in rows] == [5]
    assert [(error.line, error.field) for error in reading.rejected_fields] == [(6, "phone")]


def test_a_column_that_is_left_out_is_known_to_be_left_out() -> None:
    rows, reading = read(b"phone,timezone\n79161234567,UTC\n")
    assert rows == [ParsedRow(2, "79161234567", "916", None, "UTC")]
    assert reading.columns == ("phone", "timezone")


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"", "the file is empty"),
        (b"\n \n", "the file is empty"),
        (b"phone,timezone,name\n", "column 3 is unknown"),
        (b"phone,tag\n", "column timezone is missing"),
        (b"phone,timezone,phone\n", "column phone is there twice"),
        (b"79161234567,916,vip,Europe/Moscow\n", "the first line names the columns"),
        (b'"phone,timezone\n79161234567,UTC\n', "quote"),
        ("phone,timezone,тег\n".encode("cp1251"), "column 3 is unknown"),
        ("phone,timezone,имя\n".encode("cp866"), "encoding is not recognised"),
        (b"PK\x03\x04\x14\x00\x06\x00", "is a workbook (.xlsx or .ods)"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is an old Excel workbook"),
        (gzip.compress(HEADER + GOOD, mtime=0), "is compressed with gzip; unpack it first"),
        (b"%PDF-1.7\n", "is a PDF document"),
        (b"sep=;\nphone,timezone\n", "column 1 is unknown"),
        (b"phone" * MAX_LINE_BYTES, "longer than 64 KiB"),
    ],
)
def test_a_wrong_header_stops_the_import_and_says_what_is_wrong(header: bytes, words: str) -> None:
    with pytest.raises(Invalid) as refused:
        read(header)
    assert {error.field for error in refused.value.errors} == {"header"}
    assert words in str(refused.value)


def test_no_word_of_a_header_is_repeated_because_it_may_be_a_phone() -> None:
    with pytest.raises(Invalid) as refused:
        read(GOOD)
    assert "79161234567" not in str(refused.value)


@pytest.mark.parametrize(
    ("row", "fields"),
    [
        *((row, ["phone"]) for row in (b",916,vip,Europe/Moscow", b"7.91612E+10,916,vip,UTC")),
        (b"79161234567,91,vip,Europe/Moscow", ["operator_code"]),
        *((b"79161234567,916,vip," + zone, ["timezone"]) for zone in (b"", b"UTC+3", b"localtime")),
        *((b"79161234567,916," + tag + b",UTC", ["tag"]) for tag in (b"x" * 101, b"a\x00b", b'"a\nb"', b"a\rb")),
        *((b"79161234567,916," + tag + b",UTC", ["tag"]) for tag in ("vip\u200b".encode(), b"x" * MAX_LINE_BYTES)),
        (b"7,9,a\x01b,here", ["phone", "operator_code", "tag", "timezone"]),
        *((row, ["row"]) for row in (b"79161234567,916,vip", b"79161234567,916,vip,UTC,more", b"79161234567")),
        *((b"79161234567,916," + tag + b",UTC", ["row"]) for tag in (b"\x98\xfe", b"\xed\xa0\x80", b'"vip"x')),
        (b'79161234567,916,9"11,"UTC', ["row"]),
    ],
)
def test_a_bad_row_is_left_out_and_each_bad_field_is_named(row: bytes, fields: list[str]) -> None:
    rows, reading = read(HEADER, row + b"\n", GOOD)
    assert [error.field for error in reading.rejected_fields] == fields
    assert {error.line for error in reading.rejected_fields} == {2}
    assert reading.rejected == 1
    assert [row[1:] for row in rows] == [GOOD_ROW[1:]]


def test_a_quote_that_never_closes_costs_its_own_line_alone() -> None:
    rows, reading = read(HEADER + b'79161234560,916,"vip,UTC\n' + GOOD * 3000)
    assert len(rows) == 3000
    assert [(error.line, error.field) for error in reading.rejected_fields] == [(2, "row")]


def test_a_quote_that_closes_on_a_later_line_makes_one_bad_row_of_them() -> None:
    rows, reading = read(HEADER + b'79161234560,916,"vip\n\nand ""so""\nmore",UTC\n' + GOOD)
    assert [row[0] for row in rows] == [6]
    assert [(error.line, error.field) for error in reading.rejected_fields] == [(2, "tag")]
    assert reading.rejected == 1


def test_ten_megabytes_in_one_field_are_skipped_and_not_kept() -> None:
    huge = [b"x" * MAX_LINE_BYTES] * 160
    rows, reading = read(HEADER, GOOD, b'79161234560,916,"', *huge, b'",UTC\n' + GOOD)
    assert [row[0] for row in rows] == [2, 4]
    assert [(error.line, error.field) for error in reading.rejected_fields] == [(3, "row")]
    assert "longer than 64 KiB" in reading.rejected_fields[0].refusal.words()


def test_an_open_quote_before_a_line_that_is_too_long_is_a_bad_row_of_its_own() -> None:
    assert rejections(HEADER, b'7,"open\n', *[b"x" * MAX_LINE_BYTES] * 3, b"\n" + GOOD) == [(2, "row"), (3, "row")]


def test_a_quote_that_never_closes_in_a_line_over_the_limit_is_a_bad_row() -> None:
    long = b'7,"' + b"x" * MAX_LINE_BYTES
    rows, reading = read(HEADER, long[:1000], long[1000:] + b"\n" + GOOD)
    assert [row[0] for row in rows] == [3]
    assert [(error.line, error.field) for error in reading.rejected_fields] == [(2, "row")]


def test_quotes_join_lines_up_to_the_limit_and_no_further() -> None:
    blank = b"\n" * (MAX_LINE_BYTES - 10)
    assert rejections(HEADER, b'7,"', blank, b'",UTC\n', GOOD) == [(2, "row")]
    assert rejections(HEADER, b'7,"', blank, b"\n" * 20, b'"x\n', GOOD) == [(2, "row"), (2 + len(blank) + 20, "row")]


def test_the_list_of_errors_ends_but_every_bad_row_is_counted() -> None:
    _, reading = read(HEADER, *[b"8,x,vip,here\n" * 100] * 20)
    assert (len(reading.rejected_fields), reading.rejected) == (MAX_LISTED_ERRORS, 2000)


def test_a_rejection_repeats_nothing_from_the_row() -> None:
    _, reading = read(HEADER + b"89161234567,9x9,\x01secret,Nowhere/Secret\n")
    said = " ".join(error.refusal.words() for error in reading.rejected_fields)
    assert "89161234567" not in said
    assert "ecret" not in said


PIECES = [
    *(GOOD, b"\n", b'"', b"8,,,UTC\n", b'79161234567,916,"a,b",UTC\r\n'),
    *(b'7,"\n', b'x"\n', b"\xff\n", b"\xc3\xa9,", b"\r\n"),
]
LINES = st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join)


@given(LINES, st.lists(st.integers(1, 40), max_size=20))
def test_the_rejections_do_not_depend_on_how_the_upload_is_cut(lines: bytes, cuts: list[int]) -> None:
    file, pieces = HEADER + lines, []
    rest = file
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]
    whole_rows, whole = read(file)
    rows, reading = read(*pieces, rest)
    assert (rows, reading.rejected, reading.rejected_fields) == (whole_rows, whole.rejected, whole.rejected_fields)


@given(st.binary(max_size=300))
def test_no_bytes_whatever_raise_anything_but_invalid(noise: bytes) -> None:
    rows, reading = read(HEADER, noise)
    assert all(isinstance(error, RejectedField) for error in reading.rejected_fields)
    assert len(rows) + reading.rejected <= noise.count(b"\n") + 1
