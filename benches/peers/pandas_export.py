"""pandas: a question to SQLite, written as CSV. Arguments: the file, the question, the CSV."""

import sqlite3
import sys

import pandas

with sqlite3.connect(sys.argv[1]) as conn:
    pandas.read_sql_query(sys.argv[2], conn).to_csv(sys.argv[3], index=False)
