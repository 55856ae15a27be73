"""Says of one model file how far it can be trusted, without ever loading it.

The package stands alone: it imports nothing of ours and only the standard library, so that it can
run in a child process that may do nothing else. It owns the verdict ladder, the recognition of
formats by content and the proofs behind a verdict. It refuses to execute, unpickle, render or
extract anything.
"""

from modelkeepd.scan.scanner import scan_file
from modelkeepd.scan.verdicts import Reason, Report, Subject, Verdict, worst

__all__ = ["Reason", "Report", "Subject", "Verdict", "scan_file", "worst"]
