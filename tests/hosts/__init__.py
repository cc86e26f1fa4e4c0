"""Programs of every kind that must run as they do alone, recorded and scheduled.

cases.py    the programs, compiled where they are C, and how they are run
rounds.py   each of them again and again on every interpreter: `make test-hosts`
"""
