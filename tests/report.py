"""end to end: unlearn-report, by its own tests: numbers, pictures, the page in a browser, a run that goes on."""
import sys

from harness import ROOT, VARIANT

try:
    import pytest
except ImportError:
    print("skipped: no pytest: make venv")
    sys.exit(77)


class Count:
    """Of tests: a failure while one is set up is a failure of it."""
    passed = failed = skipped = 0

    def pytest_runtest_logreport(self, report):
        self.passed += report.when == "call" and report.passed
        self.failed += report.failed
        self.skipped += report.skipped
        if report.skipped:
            print(f"\nskipped: {report.longrepr[2]}")


if VARIANT:
    print("skipped: the sanitizers' builds are not asked here: these tests are of Python")
    sys.exit(77)
count = Count()
status = pytest.main(["-q", "-p", "no:cacheprovider", str(ROOT / "analysis/tests")], plugins=[count])
print(f"{count.passed} passed, {count.failed} failed" + (f", {count.skipped} skipped" if count.skipped else ""))
sys.exit(status != 0)
