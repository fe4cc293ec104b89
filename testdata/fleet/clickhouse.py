"""Runs SQL in ClickHouse, in this process, for the test beside it.

Reads one statement a line from standard input, as a JSON string, and answers
each with a line: {"rows": [...]} or {"error": "..."}.
"""

import json
import os
import sys

from chdb import session

# Nothing else shall read from standard input.
statements = os.fdopen(os.dup(0))
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

engine = session.Session(sys.argv[1])
for line in statements:
    try:
        rows = engine.query(json.loads(line), "JSONEachRow").bytes().decode()
        answer = '{"rows": [' + ",".join(rows.splitlines()) + "]}"
    except Exception as e:
        answer = json.dumps({"error": str(e)})
    print(answer, flush=True)
