"""For all tests."""

import signal

# A runner that starts the suite in the background has it ignore Ctrl-C, and every program that a
# test starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
