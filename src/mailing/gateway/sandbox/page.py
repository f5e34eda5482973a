"""The sandbox's page: no script, nothing from other hosts, every value escaped."""

from collections.abc import Iterable
from html import escape
from string import Template
from typing import Final

import msgspec

from mailing.gateway.sandbox.behaviour import Behaviour
from mailing.gateway.sandbox.gateway import Summary
from mailing.gateway.sandbox.ledger import Entry

CONTENT_SECURITY_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"

PAGE: Final = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="2">
<title>Sandbox gateway</title>
<style>
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
table { border-collapse: collapse; margin-bottom: 2rem; }
th, td { border-bottom: 1px solid #ddd; padding: .25rem .75rem .25rem 0; text-align: left; vertical-align: top; }
td { overflow-wrap: anywhere; }
</style>
</head>
<body>
<h1>Sandbox gateway</h1>
<p>Nothing leaves this machine. Change the behaviour with <code>PUT /behaviour</code>.</p>
<h2>Behaviour</h2>
<table>$behaviour</table>
<h2>Calls</h2>
<table>$counts</table>
<h2>Accepted last</h2>
<table><tr><th>No.<th>Message<th>Phone<th>Accepted at<th>Repeats<th>Text</tr>$accepted</table>
</body>
</html>
""")


def page(behaviour: Behaviour, summary: Summary, newest: list[Entry]) -> str:
    counts = msgspec.structs.asdict(summary)
    counts |= counts.pop("answers")
    return PAGE.substitute(
        behaviour=_rows(msgspec.structs.asdict(behaviour).items()),
        counts=_rows(counts.items()),
        accepted=_rows(
            (entry.seq, entry.id, entry.phone, entry.at.isoformat("T", "milliseconds"), entry.repeats, entry.text)
            for entry in newest
        ),
    )


def _rows(rows: Iterable[tuple[object, ...]]) -> str:
    return "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>\n" for row in rows)
