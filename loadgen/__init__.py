"""The load generator: a process of its own (Locust, gevent), and the direct client beside it."""
