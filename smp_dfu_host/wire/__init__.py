"""The protocol's bytes: headers, bodies, messages and how they travel; no I/O.

`header` and `cbor` are the formats, `body` and `message` what requests and replies are made of, `raw` and `console` the
framings that put packets together and take messages apart.
"""
