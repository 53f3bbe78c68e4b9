"""A bare aiohttp loop: sends and reads, records nothing. Arguments: URL, table, rows, in flight, prompt."""

import asyncio
import json
import sys
import time

import aiohttp
from rows import prompts


async def main(url, table, count, in_flight, prompt):
    waiting = iter(prompts(table, count, prompt))
    headers = {"authorization": "Bearer sk-bench"}
    answered = 0

    async def work(session):
        nonlocal answered
        for text in waiting:
            body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}]}
            async with session.post(f"{url}/chat/completions", json=body, headers=headers) as reply:
                reply.raise_for_status()
                answered += bool((await reply.json())["choices"][0]["message"]["content"])

    start = time.perf_counter()
    connector = aiohttp.TCPConnector(limit=in_flight)
    async with aiohttp.ClientSession(connector=connector) as session:
        await asyncio.gather(*(work(session) for _ in range(in_flight)))
    print(json.dumps({"answered": answered, "seconds": time.perf_counter() - start}))


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]))
