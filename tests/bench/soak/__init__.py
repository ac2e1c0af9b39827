"""An hour of mixed load with vanishing clients: nothing wrong may be served, and nothing be left over."""
