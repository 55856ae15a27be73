"""What a scan's report means for a download: placed, placed with a warning, or set aside."""

from modelkeepd.scan.verdicts import Report, Verdict
from modelkeepd.transfer import jobs
from modelkeepd.transfer.errors import TransferError


def allowed(verdict: Verdict, review_policy: str) -> bool:
    """The ladder: what is proven goes in, what is broken or bad never, the rest by policy."""
    if verdict is Verdict.SAFE:
        return True
    if verdict in (Verdict.REVIEW, Verdict.NOT_SCANNED):
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
