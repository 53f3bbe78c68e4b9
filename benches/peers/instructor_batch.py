"""instructor's BatchProcessor: one batch of all rows, its results read into typed objects.

Arguments: URL (of a mock whose answers are JSON), table, rows, prompt.
"""

import json
import os
import sys
import time

os.environ["OPENAI_BASE_URL"] = sys.argv[1]

from instructor.batch import BatchProcessor  # noqa: E402
from pydantic import BaseModel  # noqa: E402
from rows import prompts  # noqa: E402


class Answer(BaseModel):
    label: str
    reason: str


url, table, count, prompt = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
texts = prompts(table, count, prompt)
start = time.perf_counter()
processor = BatchProcessor("openai/gpt-4o-mini", Answer)
messages = [[{"role": "user", "content": text}] for text in texts]
batch = processor.submit_batch(processor.create_batch_from_messages(messages, file_path="requests.jsonl"))
while processor.get_batch_status(batch)["status"] != "completed":
    time.sleep(0.1)
answers = [result for result in processor.retrieve_results(batch) if result.success]
seconds = time.perf_counter() - start
print("\n" + json.dumps({"answered": len(answers), "seconds": seconds}))
