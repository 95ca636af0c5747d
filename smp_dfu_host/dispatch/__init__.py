"""From packet to reply: the worker's queue, the router's table, the hooks, and what modules share.

`peer` says who asks, `worker` when a request's turn is (at once, with `begun`, if nothing is before it), `router` and
`group` who answers it, `hooks` who may refuse it and `hook_programs` with which `program`. `events`, `lock`, `stats`,
`clock` and `services` are what groups and modules are built from.
"""
