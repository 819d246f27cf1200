"""A run that asks an endpoint for numbered requests and stores the responses: `python -m ... FOLDER URL FROM TO`."""

import sys
from pathlib import Path

from cohobate.config import Teacher, Triples
from cohobate.teachers.base import Batch, Failure, Request
from cohobate.teachers.endpoint.client import EndpointTeacher
from cohobate.teachers.generate import store_responses
from cohobate.teachers.response_store import ResponseStore


def request(number: int) -> Request:
    messages = [{"role": "user", "content": f"Question {number}?"}]
    return Request(f"q{number}", messages, "m", 1.0, 1.0, 0, 64, seed=0, sample_index=0)


def ask(folder: Path, url: str, numbers: range, concurrency: int = 4) -> tuple[int, int]:
    """Store the responses to these requests; returns how many this run received, and how many others did."""
    store, requests = ResponseStore(folder), [request(number) for number in numbers]
    teacher = Teacher.model_validate({"kind": "endpoint", "model": "m", "base_url": url})
    received, elsewhere = list[str](), list[str]()

    def watch(batch: Batch) -> None:
        received.extend(item.request.key if isinstance(item, Failure) else item.key for item in batch)

    with store.claims() as claims:
        missing = [requests[index] for index in store.locate([item.key for item in requests], 64).missing]
        store_responses(
            *(EndpointTeacher(teacher, Triples(concurrency=concurrency, attempts=1)), missing, store, claims),
            *(watch, elsewhere.extend),
            paid_by="run",
            max_tokens=64,
        )
    return len(received), len(elsewhere)


if __name__ == "__main__":
    print(*ask(Path(sys.argv[1]), sys.argv[2], range(int(sys.argv[3]), int(sys.argv[4]))), flush=True)
