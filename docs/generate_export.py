"""Writes the tables of docs/export.md, its last part, from gilscope/export/parquet_schema.py."""

from __future__ import annotations

import sys
from pathlib import Path

from gilscope.export.parquet_schema import markdown

page = Path(sys.argv[1])
tables = markdown()
head, _, _ = page.read_text(encoding="utf-8").partition(tables.lstrip().splitlines()[0])
page.write_text(head.rstrip() + "\n" + tables, encoding="utf-8")
