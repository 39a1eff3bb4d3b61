"""An unmodified kube-apiserver on kvshim, seen from kubectl and from a client of its API."""
