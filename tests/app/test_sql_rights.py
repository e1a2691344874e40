"""Two users with different roles run the same SQL in the whole app, behind a sign-in.

Slow, because the whole app starts behind a sign-in, and two people sign in.
"""

from pathlib import Path

from playwright.sync_api import Browser

from tests.stage import MARKER, running_stage

STREAMS = '''"""Streams."""
from components import latest_values, live, newest_rows, sql, values

latest_values(sql(
    "SELECT any_value(d.word) AS word, count(*) AS n FROM m, d", m=live("METRICS", "metrics.>"),
    d=sql("SELECT 'shared' AS word"),
), "n", by="word")
newest_rows(sql("SELECT key || ' is a limit' AS k FROM t", t=values("thresholds")))
vault = live("VAULT", "vault.{metal}", look_back="P1D")
newest_rows(sql("SELECT metal || ' is there' AS what, text FROM v", v=vault))
'''
BUCKET = '''"""Bucket."""
from components import newest_rows, sql, values

newest_rows(sql("SELECT key || ' is known' AS what, value FROM s", s=values("safe")))
'''


def test_each_gets_what_the_role_may_read(browser: Browser, tmp_path: Path) -> None:
    """The operator sees all results. The viewer opens the same pages at the same time and sees the results
    that the role may read, and a reason for each other result. The viewer receives no byte of those."""
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "overview.py").write_text(STREAMS)
    (pages / "values.py").write_text(BUCKET)
    with running_stage(browser, tmp_path, LOOKBACK_PAGES=str(pages)) as stage:
        operators = [stage.person("olga", "operators", page=page) for page in ("/overview", "/values")]
        shown = dict(zip(operators, ("gold is there", "combination is known"), strict=True))
        viewer = stage.person("vera", "viewers")
        for operator, text in shown.items():
            operator.sees(text)
            operator.gets(MARKER)
        viewer.go("/")
        viewer.sees("shared")
        viewer.sees("cpu is a limit")
        viewer.sees("not permitted to send requests to '$JS.data.API.STREAM.INFO.VAULT'")
        viewer.go("/values")
        viewer.sees("not permitted to send requests to '$JS.data.API.STREAM.INFO.KV_safe'")
        for secret in (MARKER, "gold", "combination"):
            assert not viewer.has(secret)
        for operator, text in shown.items():
            operator.sees(text)
