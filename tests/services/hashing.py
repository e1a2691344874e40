"""Hashes the Python files of this project, and reports: python hashing.py URL [--slowly|--fail]."""

import hashlib
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

from services.workflow import Workflow  # noqa: E402 - the path comes first

PAUSE = 0.07  # seconds between two files, so that a viewer can watch the run


def main(url: str, mode: str) -> None:
    """One run: a job per folder, a step for reading and one for hashing."""
    with Workflow("hashing", trigger="manual", url=url, interval=0.5) as workflow:
        for folder in ("components", "nats_client", "services"):
            with workflow.job(folder) as job:
                with job.step("list files") as step:
                    files = sorted((ROOT / folder).rglob("*.py"))
                    step.log(f"{len(files)} files in {folder}")
                with job.step("hash") as step:
                    for done, file in enumerate(files, 1):
                        digest = hashlib.sha256(file.read_bytes()).hexdigest()
                        step.log(f"{digest[:16]}  {file.relative_to(ROOT)}")
                        step.progress(done, len(files))
                        time.sleep(PAUSE if mode == "--slowly" else 0)
                if mode == "--fail" and folder == "nats_client":
                    with job.step("compare"):
                        (ROOT / "no such list of hashes").read_text()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "")
