"""Plain HTTP: health, version and metrics.

`routes` maps a request to a response and knows no socket, so every transport can serve it;
`server` is the small HTTP/1.1 server of `--listen-metrics-urls`.
"""
