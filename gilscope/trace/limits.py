"""What a trace or a ring file may hold at the most, so that nothing behind the reader can be made
to explode. Each is what gilscope itself keeps to where it writes; a test compares those that the
probe has too.
"""

from __future__ import annotations

STACK_DEPTH = 64  # frames of a stack: GS_STACK_DEPTH
TEXT_BYTES = 1000  # of a name in a table's row: TEXT_BYTES of probe/stacks.c; a thread's has 200
COMMAND_BYTES = 4096  # of a process's arguments: they lie in its page
WORD_BYTES = 100  # of what gilscope itself has words for: a version, a clock, a policy
WORDS = 1 << 18  # of the recorded command: as many as Linux starts a program with, by default

# A trace unpacks to FREE + RATIO times its size at the most. Traces pack up to 22-fold (gzip -9, a
# ping-pong of two threads by a clock of microseconds); FREE is for short ones of many threads.
UNPACKED_FREE = 16 << 20
UNPACKED_RATIO = 24

MEMBERS = 16  # parts of a compressed file; gilscope writes three

# The metadata, whose rows cost their reader ten times their size and more.
METADATA_FREE = 4 << 20  # and as many bytes as the file has
ENTRY_BYTES = 1 << 19  # of a row, or of one word of the command (Linux: 131,072)
FIELDS = 100  # of its packet and its event, which have a dozen
PACKET_BYTES = 1 << 20  # of any other packet, in files whose metadata is at their begin
