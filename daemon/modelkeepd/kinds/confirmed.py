"""The user's confirmations in the store: the table ``kind_confirmed``.

A content has one row; saying it again replaces what was said, field by field.
"""

import json
from typing import Any

import apsw

from modelkeepd.kinds.learning import Confirmation, Learned
from modelkeepd.kinds.seen import Transaction

# what was confirmed last counts; nobody confirms more by hand
_MOST = 5_000


def confirm(tx: Transaction, said: Confirmation, path: str) -> None:
    """Keep what a user said of the file at ``path``; reported as ``file.confirmed``."""
    tx.db.execute(
        "INSERT INTO kind_confirmed (fingerprint, sha256, type, base, features, at_ms)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (fingerprint) DO UPDATE SET"
        " sha256 = coalesce(excluded.sha256, sha256), type = coalesce(excluded.type, type),"
        " base = coalesce(excluded.base, base), features = excluded.features,"
        " at_ms = excluded.at_ms",
        (
            *(said.fingerprint, said.sha256, said.type, said.base),
            *(json.dumps(said.features, ensure_ascii=False), tx.now_ms),
        ),
    )
    named = {"type": said.type, "base": said.base}
    tx.emit("library", "file.confirmed", path, {key: word for key, word in named.items() if word})


def load(db: apsw.Connection) -> Learned:
    """What was confirmed so far."""
    rows: list[Any] = db.execute(
        "SELECT fingerprint, sha256, type, base, features, at_ms FROM kind_confirmed"
        " ORDER BY at_ms DESC LIMIT ?",
        (_MOST,),
    ).fetchall()
    return Learned(
        Confirmation(fingerprint, sha256, type_, base, tuple(json.loads(features)), at_ms)
        for fingerprint, sha256, type_, base, features, at_ms in rows
    )
