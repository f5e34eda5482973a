"""Celery over Redis: one task per message, which calls the gateway with requests and stores the result.

Many mailing services start like this. It is favoured: the task contains all that the call needs, connections to the
gateway and to PostgreSQL stay open, results are ignored, nothing is retried.
"""

import os
import threading
from datetime import UTC, datetime

import psycopg
import requests
from celery import Celery

from bench.follow import done, ready, values

QUEUE = "messages"

app = Celery("bench.peers.celery_app", broker=os.environ.get("BENCH_BROKER"))
app.conf.update(task_ignore_result=True, task_default_queue=QUEUE, broker_connection_retry_on_startup=True)
_kept = threading.local()  # one for each process or thread


@app.task(name="send")
def send(message_id: int, phone: str, text: str) -> None:
    if not hasattr(_kept, "http"):
        _kept.http = requests.Session()
        _kept.http.trust_env = False
        _kept.database = psycopg.connect(os.environ["BENCH_DATABASE_URL"], autocommit=True)
    url = f"{os.environ['BENCH_GATEWAY_URL']}/send/{message_id}"
    answer = _kept.http.post(url, json={"id": message_id, "phone": int(phone), "text": text}, timeout=10)
    if answer.status_code == requests.codes.ok and answer.json().get("code") == 0:
        _kept.database.execute(
            "UPDATE message SET status = 'sent', sent_at = %s WHERE id = %s", (datetime.now(UTC), message_id)
        )


if __name__ == "__main__":
    count = int(values()["count"])
    with app.connection_for_write() as connection:
        connection.ensure_connection()
        send.delay(0, "79161234567", "hello")  # the first use imports and connects
        app.control.purge()
        ready()
        for number in range(1, count + 1):
            send.delay(number, "79161234567", "hello")
        done()
