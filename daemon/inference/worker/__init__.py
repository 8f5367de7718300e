"""The process that holds one model: what it gives up, what it reads, how it takes requests.

``python -m dreamer.daemon.inference.worker``, started by ``pool.process``.
"""
