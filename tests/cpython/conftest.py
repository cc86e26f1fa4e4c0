"""What lies in glue/ are tests for the interpreters that are compared, not for this one."""

collect_ignore = ["glue"]
