"""Something done to members, links or nodes that can be injected, proved and healed; one fault a file."""
