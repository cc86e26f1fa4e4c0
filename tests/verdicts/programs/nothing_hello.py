"""A short script without threads."""

# /// verdict
# kind = "nothing"
# ci = true
# ///

print("hello", sum(range(1_000)))
