"""curator, calls: the prompt as a dataset, answered and read. Its limits are lifted; how many are in flight is its own choice.

Arguments: URL, table, rows, in flight (not used), prompt. Its cache is in the current folder; telemetry and viewer are off.
"""

import importlib.util
import json
import os
import pathlib
import sys
import time

# litellm, which it brings, has the vocabularies with it; so none is downloaded.
LITELLM = pathlib.Path(importlib.util.find_spec("litellm").origin).parent
os.environ |= {
    "TELEMETRY_ENABLED": "false",
    "CURATOR_VIEWER": "0",
    "CURATOR_CACHE_DIR": os.path.join(os.getcwd(), "curator"),
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "OPENAI_BASE_URL": sys.argv[1],
    "TIKTOKEN_CACHE_DIR": str(LITELLM / "litellm_core_utils/tokenizers"),
}

from bespokelabs import curator  # noqa: E402
from rows import prompts  # noqa: E402

url, table, count, prompt = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[5]
texts = prompts(table, count, prompt)
start = time.perf_counter()
limits = {"max_requests_per_minute": 10_000_000, "max_tokens_per_minute": 10_000_000_000, "max_retries": 0}
llm = curator.LLM(model_name="gpt-4o-mini", backend="openai", backend_params={"base_url": url} | limits)
answers = llm(texts)
seconds = time.perf_counter() - start
print("\n" + json.dumps({"answered": len(answers.dataset), "seconds": seconds}))
