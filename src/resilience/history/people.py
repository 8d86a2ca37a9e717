"""What people ask of the personalization service, by the kinds of those ops: none of them is on a shard."""

READ = "suggestion.read"  # what is suggested to somebody
WRITE = "profile.write"  # what somebody cares for
OF_PEOPLE = (READ, WRITE)
