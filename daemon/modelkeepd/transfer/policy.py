"""What a scan's report means for a download: placed, placed with a warning, or set aside."""

from modelkeepd.scan.verdicts import Report, Verdict
from modelkeepd.transfer import jobs
from modelkeepd.transfer.errors import TransferError

# configurations and tokenizers: data that is read, with nothing found in it that would be called
_PLAIN_FORMATS = frozenset(["json", "text", "sentencepiece"])
_PLAIN_RULES = frozenset(["text", "sentencepiece"])


def allowed(report: Report, review_policy: str) -> bool:
    """The ladder: what is proven goes in, what is broken or bad never, the rest by policy.

    A whole text without any suspicious mark goes in with its warning whatever the policy: no
    repository would work without its configurations, and a pickle can't be one of these.
    """
    if report.verdict is Verdict.SAFE:
        return True
    if report.verdict is Verdict.REVIEW and report.format in _PLAIN_FORMATS:
        rules = {reason.rule for reason in report.reasons}
        return rules <= _PLAIN_RULES or review_policy == "place"
    if report.verdict in (Verdict.REVIEW, Verdict.NOT_SCANNED):
        return review_policy == "place"
    return False


def reasons_of(report: Report) -> str:
    """The reasons as the row keeps them."""
    return jobs.reasons_text(
        [{"rule": r.rule, "what": r.what, "offset": r.offset} for r in report.reasons]
    )


def refusal_of(report: Report) -> dict[str, object]:
    """The error on a quarantined job."""
    what = "; ".join(reason.what for reason in report.reasons[:3]) or "it could not be examined"
    bad = report.verdict in (Verdict.DANGEROUS, Verdict.MALFORMED)
    hint = (
        "look at the reasons before you do anything with it"
        if bad
        else 'set transfer.review = "place" to accept such files with a warning'
    )
    code = {Verdict.DANGEROUS: "infected", Verdict.MALFORMED: "corrupt"}.get(
        report.verdict, "denied"
    )
    message = f"quarantined, the scan says {report.verdict}: {what}"
    return jobs.error_columns(TransferError(message, hint, code=code))
