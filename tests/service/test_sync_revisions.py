"""A replaced document is kept, as the difference to the one that replaced it."""

from pathlib import Path

import pytest

from modelkeepd.hubs.documents import DocumentCodec
from tests.fakes.sync_bench import bench

# --- revisions ---


@pytest.mark.parametrize("kind", ["model", "detail"])
async def test_replaced_documents_are_kept_as_deltas_that_lead_back(
    tmp_path: Path, kind: str
) -> None:
    async with bench(tmp_path, "huggingface", models=4) as it:
        hub_id = sorted(it.hub.lives)[1]
        table = {"model": "document", "detail": "detail_document"}[kind]
        codec = DocumentCodec()
        seen = []
        for _ in range(4):
            ((raw, dict_id),) = await it.rows(
                f"SELECT raw, dict_id FROM {table} JOIN model USING (model_key) WHERE hub_id = ?",
                hub_id,
            )
            seen.append(codec.decompress(raw, dict_id))
            it.hub.publish(hub_id)
            await it.days()
        ((raw, dict_id),) = await it.rows(
            f"SELECT raw, dict_id FROM {table} JOIN model USING (model_key) WHERE hub_id = ?",
            hub_id,
        )
        newer = codec.decompress(raw, dict_id)
        revisions = await it.rows(
            "SELECT is_delta, raw FROM revision JOIN model USING (model_key)"
            " WHERE hub_id = ? AND kind = ? ORDER BY revision_id DESC",
            hub_id,
            kind,
        )
        back = []
        for is_delta, delta in revisions:
            assert is_delta
            newer = codec.apply_delta(newer, delta)
            back.append(newer)
        assert back == seen[::-1]
