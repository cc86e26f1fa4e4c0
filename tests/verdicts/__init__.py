"""A corpus of programs with their true verdicts: `python -m verdicts` in tests/. See README.md."""
