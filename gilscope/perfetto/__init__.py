"""Perfetto: the one artifact that a user keeps, written and read back without loss.

`writer.write_trace` and `reader.open_trace` are the two doors. `layout` builds and reads the rare
packets with the perfetto package's protobuf classes, `codec` calls the C encoder and decoder of the
hot ones; docs/trace-format.md gives the format and its reasons.
"""
