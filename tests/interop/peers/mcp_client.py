"""Call tools with the protocol's own Python client: what argv says, and print what it sees.

The client checks each structured result against the tool's output schema itself.
"""

import asyncio
import json
import sys

import httpx2
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client


def plain(model):
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


async def main(told):
    if "command" in told:
        command, *args = told["command"]
        server = StdioServerParameters(command=command, args=args, env=told["env"], cwd=told["cwd"])
        await run(server, told)
        return
    async with httpx2.AsyncClient(headers=told.get("headers")) as http:
        await run(streamable_http_client(told["url"], http_client=http), told)


async def run(server, told):
    async with Client(server, mode=told["mode"]) as client:
        tools, cursor = [], None
        while True:
            page = await client.list_tools(cursor=cursor)
            tools += [plain(tool) for tool in page.tools]
            cursor = page.next_cursor
            if cursor is None:
                break
        results = []
        for name, arguments in told["calls"]:
            result = await client.call_tool(name, arguments)
            dumped = plain(result)
            if (
                result.structured_content is None
                and "structured_content" in result.model_fields_set
            ):
                dumped["structuredContent"] = None
            results.append(dumped)
        seen = {"version": client.protocol_version, "tools": tools, "results": results}
        print(json.dumps(seen))


asyncio.run(main(json.loads(sys.argv[1])))
