"""Where gilscope sits in other tools; each file imports its host only when that is there."""
