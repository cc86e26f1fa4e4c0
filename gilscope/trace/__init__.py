"""From rings or a finished trace to ordered events, and from those to intervals."""
