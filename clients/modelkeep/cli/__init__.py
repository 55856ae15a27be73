"""The command line: a table of commands, one parser, one output object, a module a command.

Everything here is on the fast path unless a module says otherwise: no zmq, msgspec, trio, typing,
re, argparse, pathlib or json is imported before it is needed. A test keeps the list.
"""
