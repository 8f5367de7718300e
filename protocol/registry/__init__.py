"""The room's registry: which models there are, what they are called, and who said so.

One canonical JSON document a room (``document``) holds signed records (``records``). A change
(``changes``) is a small value that is applied to the freshest document, again after a conflict.
Nothing in a document is believed before ``verify`` has checked it; ``resolve`` turns what a person
typed into a model.
"""
