"""A service's methods as tools of the Model Context Protocol, for agents.

Reading order: `content` (images and audio that methods return), `revisions` (which versions of the
protocol there are, and its codes), `tools` (from a contract to tools), `header_parameters` and
`arguments` (what a call gives), `results` (what it gets), `face` (one message in, one out, in every
revision), then what carries messages: `endpoint` (HTTP) and `stdio`. What a tool calls is behind
`face.Backend`: a service in this process (`local`), or services at URLs (`remote`).

A call takes the way of every call: the dispatcher, with its bound, deadlines, authentication, hooks
and masking of errors.

Source: https://modelcontextprotocol.io/specification/2026-07-28
"""

from .content import Audio, Image

__all__ = ["Audio", "Image"]
