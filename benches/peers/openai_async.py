"""AsyncOpenAI with a semaphore, as most people write it. Arguments: URL, table, rows, in flight, prompt."""

import asyncio
import json
import sys
import time

import openai
from rows import prompts


async def main(url, table, count, in_flight, prompt):
    texts = prompts(table, count, prompt)
    semaphore = asyncio.Semaphore(in_flight)

    async def ask(client, text):
        async with semaphore:
            messages = [{"role": "user", "content": text}]
            reply = await client.chat.completions.create(model="gpt-4o-mini", messages=messages)
            return bool(reply.choices[0].message.content)

    start = time.perf_counter()
    async with openai.AsyncOpenAI(base_url=url, max_retries=0) as client:
        answers = await asyncio.gather(*(ask(client, text) for text in texts))
    print(json.dumps({"answered": sum(answers), "seconds": time.perf_counter() - start}))


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]))
