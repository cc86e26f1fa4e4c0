"""Into a process that runs already: from outside (`gilscope attach`) and from inside."""
