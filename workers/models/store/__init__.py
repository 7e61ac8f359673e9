"""The model store of one host: blobs, manifests, tags. Any number of processes may share it."""
