"""curator, batches: one batch of all rows, looked at every second, which is the most that it allows.

Arguments: URL, table, rows, prompt. Its cache is in the current folder; telemetry and viewer are off.
"""

import json
import os
import sys
import time

os.environ |= {
    "TELEMETRY_ENABLED": "false",
    "CURATOR_VIEWER": "0",
    "CURATOR_CACHE_DIR": os.path.join(os.getcwd(), "curator"),
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "OPENAI_BASE_URL": sys.argv[1],
}

from bespokelabs import curator  # noqa: E402
from rows import prompts  # noqa: E402

url, table, count, prompt = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
texts = prompts(table, count, prompt)
start = time.perf_counter()
params = {"base_url": url, "batch_size": count, "batch_check_interval": 1}
llm = curator.LLM(model_name="gpt-4o-mini", backend="openai", batch=True, backend_params=params)
answers = llm(texts)
seconds = time.perf_counter() - start
print("\n" + json.dumps({"answered": len(answers.dataset), "seconds": seconds}))
