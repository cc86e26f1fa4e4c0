"""From intervals to findings: distributions, classes of threads, blame, the summary."""
