"""What holds for every test: no network, and none over five seconds unless it is marked slow."""

import os

# Before torch or transformers is imported: tests are offline, tiny, and the same at any number of cores.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest  # noqa: E402

# Seconds that setup, call or teardown of an unmarked test may take. A loaded machine may be given more room.
LIMIT = float(os.environ.get("BERTSMITH_TEST_SECONDS", "5"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """Fail an unmarked test that takes too long, so that the suite stays fast without anybody watching it."""
    report = yield
    if report.passed and call.duration > LIMIT and item.get_closest_marker("slow") is None:
        report.outcome = "failed"
        report.longrepr = (
            f"{item.nodeid}: {call.when} took {call.duration:.1f} s, over the {LIMIT:g} s that an "
            "unmarked test may take; make it smaller, or mark it @pytest.mark.slow"
        )
    return report
