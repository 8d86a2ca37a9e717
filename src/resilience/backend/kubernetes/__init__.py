"""What every Kubernetes backend has in common: manifests, the API, members as pods."""
