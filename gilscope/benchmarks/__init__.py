"""One file a benchmark; `gilscope bench NAME` runs it."""
