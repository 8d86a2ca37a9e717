"""What became of every acknowledged write, from the audit after healing: of direct writes, sessions and edits."""
