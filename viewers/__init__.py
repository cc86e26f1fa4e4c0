"""What people look at: the terminal view, Perfetto's UI. Viewers present findings, no more."""
