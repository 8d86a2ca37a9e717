"""What the members of rooms saw of the edits: in which order, and whether all of them."""
