"""Two threads query SQLite databases of their own: its C code lets the GIL go."""

# /// verdict
# kind = "nothing"
# ///

import sqlite3
import threading

QUERY = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000)
SELECT sum(i * i % 7) FROM n
"""


def query():
    database = sqlite3.connect(":memory:")
    for _ in range(3):
        database.execute(QUERY).fetchone()
    database.close()


for n in range(2):
    threading.Thread(target=query, name=f"query-{n}").start()
