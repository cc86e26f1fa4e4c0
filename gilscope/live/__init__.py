"""One reading of a process that runs, from outside: its interpreter, its threads, their frames and
what they wait for. Nothing is written there, nothing is stopped, nothing is called.
"""
