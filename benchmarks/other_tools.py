"""The same work by other tools, to compare with.

    PYTHON benchmarks/other_tools.py NAME --url URL --folder F --requests N --concurrency C

PYTHON is that of the environment with the tool; nothing of cohobate is imported here. Each is set up to ask as many
questions, as many at a time, and to keep what it received on the disk so that a run that was killed can go on.

    curator      pip install bespokelabs-curator==0.1.31
    datatrove    pip install 'datatrove[io]==0.10.1' aiofiles aiosqlite httpx pandas spacy nltk 'xxhash<4' regex
    distilabel   pip install 'distilabel[openai]==1.5.3' requests 'openai<2'

`minhash` removes near-duplicates from the questions of a Parquet file with datatrove.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def question(number: int) -> str:
    """The same questions for everybody."""
    return f"What is {number} + 1? Think step by step."


def curator(url: str, folder: Path, requests: int, concurrency: int) -> int:
    """One LLM block; rows that fail are retried, and are missing from the dataset if they fail for good."""
    os.environ |= {"OPENAI_API_KEY": "none", "TELEMETRY_ENABLED": "false", "CURATOR_DISABLE_RICH_DISPLAY": "1"}
    os.environ |= {"CURATOR_CACHE_DIR": str(folder / "curator"), "HF_HOME": str(folder / "hf"), "DO_NOT_TRACK": "1"}
    import litellm

    # It counts tokens with an encoding that it would download, and that one of its libraries ships.
    os.environ["TIKTOKEN_CACHE_DIR"] = str(Path(litellm.__file__).parent / "litellm_core_utils/tokenizers")
    from bespokelabs import curator
    from datasets import Dataset

    class Answers(curator.LLM):  # type: ignore[misc]
        def prompt(self, row: dict[str, Any]) -> str:
            return str(row["question"])

        def parse(self, row: dict[str, Any], response: str) -> dict[str, Any]:
            return {"question": row["question"], "answer": response}

    asker = Answers(
        model_name="m",
        backend="openai",
        generation_params={"temperature": 1.0, "max_tokens": 512, "seed": 0},
        backend_params={
            "base_url": url,
            "max_requests_per_minute": 10_000_000,
            "max_tokens_per_minute": 10_000_000_000,
            "max_concurrent_requests": concurrency,
            "require_all_responses": False,
        },
    )
    answers = asker(Dataset.from_list([{"question": question(number)} for number in range(requests)]))
    return len(getattr(answers, "dataset", answers))


def datatrove(url: str, folder: Path, requests: int, concurrency: int) -> int:
    """One task with checkpoints; documents are written as JSON lines."""
    from datatrove.data import Document
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.inference.run_inference import InferenceConfig, InferenceRunner
    from datatrove.pipeline.writers import JsonlWriter

    def documents(data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        for number in range(requests):
            yield Document(text=question(number), id=str(number))

    async def rollout(document: Any, generate: Any) -> Any:
        return await generate({"messages": [{"role": "user", "content": document.text}], "max_tokens": 512})

    runner = InferenceRunner(
        rollout_fn=rollout,
        config=InferenceConfig(
            server_type="endpoint",
            model_name_or_path="m",
            endpoint_url=url.removesuffix("/v1"),
            max_concurrent_generations=concurrency,
            default_generation_params={"temperature": 1.0, "seed": 0},
        ),
        output_writer=JsonlWriter(
            str(folder / "datatrove/out"), output_filename="${rank}_chunk_${chunk_index}.jsonl", compression=None
        ),
        checkpoints_local_dir=str(folder / "datatrove/checkpoints"),
        records_per_chunk=500,
    )
    LocalPipelineExecutor([documents, runner], logging_dir=str(folder / "datatrove/logs"), tasks=1).run()
    files = sorted((folder / "datatrove/out").glob("*.jsonl"))
    return sum(1 for file in files for line in file.read_text().splitlines() if line)


def distilabel(url: str, folder: Path, requests: int, concurrency: int) -> int:
    """A pipeline of one task; a batch is as many rows as may be in flight."""
    os.environ |= {"HF_HOME": str(folder / "hf"), "XDG_CACHE_HOME": str(folder / "cache"), "HOME": str(folder)}
    from distilabel.models import OpenAILLM
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromDicts
    from distilabel.steps.tasks import TextGeneration

    rows = [{"instruction": question(number)} for number in range(requests)]
    with Pipeline(name="answers", cache_dir=str(folder / "distilabel")) as pipeline:
        load = LoadDataFromDicts(data=rows, batch_size=concurrency)
        llm = OpenAILLM(
            model="m",
            base_url=url,
            api_key="none",
            generation_kwargs={"max_new_tokens": 512, "temperature": 1.0},
        )
        load >> TextGeneration(llm=llm, input_batch_size=concurrency)
    answers = pipeline.run(use_cache=True)
    return sum(1 for row in answers["default"]["train"] if row["generation"])


def minhash(rows: Path, folder: Path) -> int:
    """MinHash of datatrove's own settings over the questions of a Parquet file, in one process; returns those kept."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers import JsonlWriter

    config, at = MinhashConfig(), {name: str(folder / name) for name in ("signatures", "buckets", "remove", "kept")}

    def reader() -> Any:
        return ParquetReader(str(rows.parent), glob_pattern=rows.name, text_key="question", id_key="question_id")

    steps: list[tuple[list[Any], int]] = [
        ([reader(), MinhashDedupSignature(output_folder=at["signatures"], config=config)], 1),
        ([MinhashDedupBuckets(at["signatures"], at["buckets"], config=config)], config.num_buckets),
        ([MinhashDedupCluster(at["buckets"], at["remove"], config=config)], 1),
        ([reader(), MinhashDedupFilter(at["remove"]), JsonlWriter(at["kept"], compression=None)], 1),
    ]
    for number, (pipeline, tasks) in enumerate(steps):
        LocalPipelineExecutor(pipeline, logging_dir=str(folder / f"logs-{number}"), tasks=tasks, workers=1).run()
    return sum(1 for file in Path(at["kept"]).glob("*.jsonl") for _ in file.open())


def main() -> None:
    """Do the work; the last line is the number of rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=["curator", "datatrove", "distilabel", "minhash"])
    parser.add_argument("--url")
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=256)
    arguments = parser.parse_args()
    if arguments.name == "minhash":
        rows = minhash(arguments.rows, arguments.folder)
    else:
        peer = {"curator": curator, "datatrove": datatrove, "distilabel": distilabel}[arguments.name]
        rows = peer(arguments.url, arguments.folder, arguments.requests, arguments.concurrency)
    print(json.dumps({"rows": rows}), flush=True)


if __name__ == "__main__":
    main()
