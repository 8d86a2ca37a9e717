"""The local backend: one stack image, one sandbox of namespaces, members as pods in it."""
