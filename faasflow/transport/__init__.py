"""How a flow function reaches functions, URLs and its own queue."""
