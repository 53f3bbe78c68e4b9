"""OpenAI cookbook's api_request_parallel_processor.py, run as it is, but for its check that a URL is https.

Arguments: URL, table, rows, in flight (aiohttp's own 100; it has no setting), prompt, the script.
"""

import asyncio
import importlib.util
import json
import logging
import sys
import time

from rows import prompts

url, table, count, script = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[6]
spec = importlib.util.spec_from_file_location("cookbook", script)
cookbook = importlib.util.module_from_spec(spec)
sys.modules["cookbook"] = cookbook
spec.loader.exec_module(cookbook)
cookbook.api_endpoint_from_url = lambda _: "chat/completions"
with open("requests.jsonl", "w", encoding="utf-8") as file:
    for prompt in prompts(table, count, sys.argv[5]):
        body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": prompt}], "max_tokens": 64}
        file.write(json.dumps(body) + "\n")
start = time.perf_counter()
asyncio.run(
    cookbook.process_api_requests_from_file(
        requests_filepath="requests.jsonl",
        save_filepath="replies.jsonl",
        request_url=f"{url}/chat/completions",
        api_key="sk-bench",
        max_requests_per_minute=10_000_000,
        max_tokens_per_minute=10_000_000_000,
        token_encoding_name="cl100k_base",
        max_attempts=1,
        logging_level=logging.ERROR,
    )
)
seconds = time.perf_counter() - start
with open("replies.jsonl", encoding="utf-8") as file:
    answered = sum('"choices"' in line for line in file)
print(json.dumps({"answered": answered, "seconds": seconds}))
