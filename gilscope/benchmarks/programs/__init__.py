"""Scripts that the benchmarks run in the measured interpreters.

Each stands alone: it imports nothing of gilscope and runs on Python 3.9 and later. It greets with
one line of JSON, and then answers each line of JSON on its standard input with one.
"""
