"""Asking a model behind any OpenAI-compatible server: vLLM, SGLang, llama.cpp, Ollama, TGI, or a hosted one."""

import asyncio
import hashlib
import logging
import os
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from anyio.from_thread import start_blocking_portal

from ..errors import DemurError
from ..masking import repeats_key
from ..records import ModelInfo, Prompt, Request, Response, Sampling
from .base import in_order
from .chat import Answer, MalformedError, answers, complaint, error_code, filtered
from .server import Ask, Reply, Server

__all__ = ["OpenAIModel"]

BATCH_RESPONSES = 256
CONCURRENCY, TIMEOUT_S = 8, 300.0
PATIENCE = 20
"""Requests that fail one after the other, retries included, before the run stops."""
ALIKE = 20
"""Prompts of which all samples are the same, and none of which they differ, before a doubt is raised."""
LONG_KEY, PIECE = 16, 12
"""Answers may use words such as EMPTY, which stand in for a key; of a longer one they hold no such piece."""
KEY, ADDRESS = "OPENAI_API_KEY", "OPENAI_BASE_URL"
_NOT_ACCEPTED = frozenset({400, 422, 501})

log = logging.getLogger(__name__)


class OpenAIModel:
    """A model of an OpenAI-compatible server (``POST BASE_URL/chat/completions``).

    The prompt is one user message; the server applies its chat template. Several samples of a prompt are asked for in
    one request (``n``) where the server gives several; else, and at temperature 0, in requests of their own with a
    seed each, which servers keep as well as they can. A failed request is repeated (see :mod:`.server`); what fails
    for good is a response with ``finish_reason`` ``error``, which starting the run again retries.

    Args:
        name: what the server calls the model.
        base_url: for example ``http://localhost:8000/v1``; without it the environment variable ``OPENAI_BASE_URL``.
        concurrency: requests in flight.
        rpm: requests started per minute; without it no limit.
        timeout: seconds for one attempt.
        thinking_tokens: what a reasoning model may use on top of the answer. Servers count both together.
        model_id: the name for the record, where it differs from the server's.

    The key is read from the environment variable ``OPENAI_API_KEY``; none is sent where it is not set.

    Raises:
        DemurError: there is no address, or an option is out of range.
    """

    separate = True
    """A response does not depend on what else is in its batch, so each one is kept when it comes."""

    def __init__(
        self,
        name: str,
        *,
        base_url: str | None = None,
        concurrency: int = CONCURRENCY,
        rpm: float | None = None,
        timeout: float = TIMEOUT_S,
        thinking_tokens: int = 0,
        model_id: str | None = None,
    ) -> None:
        if concurrency < 1 or timeout <= 0 or thinking_tokens < 0 or (rpm is not None and rpm <= 0):
            raise DemurError("concurrency, requests per minute and timeout are above 0", "correct the option")
        self.address = _checked(base_url or os.environ.get(ADDRESS) or "")
        if "://" in name or "://" in (model_id or ""):
            raise DemurError("the name of a model of a server is no address", "give the address with --base-url")
        self._key = os.environ.get(KEY, "").strip() or None
        if self._key and not (self._key.isascii() and self._key.isprintable()):
            raise DemurError(f"{KEY} holds characters that no key has", "copy the key again")
        self._server = Server(f"{self.address}/chat/completions", self._key, rpm=rpm, timeout=timeout)
        self._concurrency = concurrency
        self._name, self._thinking_tokens = name, thinking_tokens
        self._info = ModelInfo(id=model_id or name, backend="openai")
        self._failed_in_a_row = 0
        self._gives_many, self._takes_seed, self._limit = True, True, "max_tokens"
        self._said: set[str] = set()
        self._alike, self._different = 0, False

    @property
    def info(self) -> ModelInfo:
        """The name; servers tell nothing else that can be relied on."""
        return self._info

    @property
    def template_sha256(self) -> str | None:
        """Not known: the server applies its template."""
        return None

    def plan(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Request]]:  # noqa: ARG002 (protocol)
        """Batches of about 256 responses in the order of the prompts, whatever the concurrency is."""
        return in_order(requests, BATCH_RESPONSES)

    def respond(self, batch: Sequence[Request], sampling: Sampling) -> Iterator[Response]:
        """Answer a batch; responses come as they come.

        Raises:
            DemurError: the key, the address or the model is wrong, or the server fails again and again.
        """
        # The event loop has a thread of its own, so that this also works where one runs already, as in a notebook.
        texts: dict[str, list[str]] = {request.prompt.id: [] for request in batch}
        with start_blocking_portal() as portal:
            coming = self._answered(batch, sampling)
            try:
                while (response := portal.call(_next, coming)) is not None:
                    texts[response.prompt_id].append(response.text)
                    yield response
                if sampling.temperature > 0:
                    self._compare(texts.values())
            finally:
                portal.call(coming.aclose)

    async def _answered(self, batch: Sequence[Request], sampling: Sampling) -> AsyncGenerator[Response, None]:
        todo = deque((request.prompt, request.samples) for request in batch)
        found: asyncio.Queue[Response | Exception] = asyncio.Queue()
        async with self._server.session() as ask:

            async def work() -> None:
                try:
                    while todo:
                        prompt, samples = todo.popleft()
                        given = await self._answer(ask, prompt, samples, sampling)
                        for sample, answer in zip(samples, given, strict=False):
                            found.put_nowait(Response(prompt_id=prompt.id, sample=sample, **asdict(answer)))
                        todo.extendleft((prompt, (sample,)) for sample in reversed(samples[len(given) :]))
                except Exception as fault:
                    found.put_nowait(fault)

            # What is asked is decided when a worker is free, so that it heeds what was learned about the server.
            workers = [asyncio.create_task(work()) for _ in range(self._concurrency)]
            try:
                for _ in range(sum(len(request.samples) for request in batch)):
                    response = await found.get()
                    if isinstance(response, Exception):
                        raise response
                    yield response
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    async def _answer(self, ask: Ask, prompt: Prompt, samples: Sequence[int], sampling: Sampling) -> list[Answer]:
        """Answers to all samples of a prompt where the server gives several at once, else to the first."""
        # Greedy decoding gives no several answers: some servers refuse to, others repeat one.
        together = len(samples) > 1 and sampling.temperature > 0 and self._gives_many
        if together:
            given = await self._ask(ask, prompt.text, sampling, len(samples), None)
            if given:
                return given
        alone = await self._ask(ask, prompt.text, sampling, 1, _seed(sampling.seed, prompt.id, samples[0]))
        # Only this shows that it was the number that the server did not take.
        if together and alone[0].finish_reason != "error":
            self._doubt_many()
        return alone

    async def _ask(self, ask: Ask, text: str, sampling: Sampling, count: int, seed: int | None) -> list[Answer]:
        """Up to ``count`` answers; none where the server does not give several at once."""
        while True:
            body = self._body(text, sampling, count, seed)
            reply = await ask(body)
            if reply.status in _NOT_ACCEPTED and not filtered(reply.body):
                if self._adapt(reply, body):
                    continue
                if count > 1:
                    return []
            return self._judge(reply, text, count)

    def _body(self, text: str, sampling: Sampling, count: int, seed: int | None) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._name,
            "messages": [{"role": "user", "content": text}],
            "temperature": sampling.temperature,
            self._limit: sampling.max_new_tokens + self._thinking_tokens,
        }
        if sampling.top_p != 1.0:
            body["top_p"] = sampling.top_p
        if count > 1:
            body["n"] = count
        if seed is not None and self._takes_seed:
            body["seed"] = seed
        return body

    def _adapt(self, reply: Reply, body: dict[str, Any]) -> bool:
        """Whether the server refused something that can be said in another way, which is then done."""
        message = complaint(reply.body, prompt="", key=None).lower()
        if "max_tokens" in body and "max_completion_tokens" in message:
            self._limit = "max_completion_tokens"
            return True
        if "seed" in body and "seed" in message:
            self._takes_seed = False
            self._say("the server takes no seed: another run draws other responses")
            return True
        return False

    def _compare(self, texts: Iterable[list[str]]) -> None:
        """Say when a server seems to leave the temperature aside, which would look like perfect consistency."""
        several = [each for each in texts if len(each) > 1 and all(each)]
        self._alike += sum(len(set(each)) == 1 for each in several)
        self._different |= any(len(set(each)) > 1 for each in several)
        if self._alike >= ALIKE and not self._different:
            self._say("every sample of a prompt is the same as the others: does the server heed the temperature?")

    def _doubt_many(self) -> None:
        self._gives_many = False
        self._say("the server does not give several samples in one request: they are asked one by one")

    def _judge(self, reply: Reply, text: str, count: int) -> list[Answer]:
        """Answers of a reply: choices, or the same fault or filter for every sample that was asked."""
        if filtered(reply.body):
            self._failed_in_a_row = 0
            return [Answer("", "content_filter")] * count
        said = complaint(reply.body, prompt=text, key=self._key)
        if reply.status == 200 and not said:
            try:
                given = [self._without_key(each) for each in answers(reply.body)[:count]]
            except MalformedError as fault:
                return [self._failed(str(fault))] * count
            if len(given) < count:
                self._doubt_many()
            if any(not answer.text and answer.finish_reason == "length" for answer in given):
                self._say("answers end before they begin; a reasoning model needs --thinking-tokens")
            self._failed_in_a_row = 0
            return given
        self._stop_if_hopeless(reply, said)
        problem = reply.problem or f"HTTP {reply.status}"
        return [self._failed(f"{problem}: {said}" if said else problem)] * count

    def _without_key(self, answer: Answer) -> Answer:
        """An answer; where it repeats the key, an error in its place."""
        long = len(self._key or "") >= LONG_KEY
        if repeats_key(answer.error, self._key) or (long and repeats_key(answer.text, self._key, PIECE)):
            return Answer("", "error", "the server's answer repeats the key and is left out")
        return answer

    def _stop_if_hopeless(self, reply: Reply, said: str) -> None:
        """Raise where no other request would fare better."""
        where = f"{self.address}: HTTP {reply.status}{f': {said}' if said else ''}"
        if reply.status in {401, 403}:
            given = f"{KEY} is set" if self._key else f"{KEY} is not set"
            raise DemurError(f"{where}; {given}", f"set {KEY} to a key that may use {self._name}")
        if reply.status == 404:
            raise DemurError(where, f"check the model's name ({self._name}) and --base-url, which often ends in /v1")
        if reply.status == 402 or error_code(reply.body) == "insufficient_quota":
            raise DemurError(where, "top up the account, then run the same command again to go on")
        if reply.status is not None and (300 <= reply.status < 400 or reply.status == 405):
            raise DemurError(where, "check --base-url: no OpenAI-compatible server answers there")
        if reply.status is None and not self._server.reached:
            raise DemurError(f"{self.address}: {reply.problem}", "start the server, or correct --base-url")

    def _failed(self, problem: str) -> Answer:
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= PATIENCE:
            raise DemurError(
                f"{self.address}: the last {PATIENCE} requests failed, the last one with: {problem}",
                "see what the server says, then run the same command again to go on",
            )
        return Answer("", "error", problem)

    def _say(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            log.warning("%s: %s", self.address, message)


async def _next(coming: AsyncGenerator[Response, None]) -> Response | None:
    return await anext(coming, None)


def _seed(seed: int, prompt_id: str, sample: int) -> int:
    """A seed for one response, from 0 to 2^31 - 1: larger ones are not taken everywhere."""
    digest = hashlib.sha256(f"{seed}\n{prompt_id}\n{sample}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def _checked(address: str) -> str:
    """A base URL without its last slash."""
    if not address:
        raise DemurError(
            "no server is named", f"give --base-url, for example http://localhost:8000/v1, or set {ADDRESS}"
        )
    try:
        parts = urlsplit(address)
        whole = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        whole = False
    if not whole:
        raise DemurError("--base-url is no http(s) address", "write it like http://localhost:8000/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise DemurError("--base-url holds more than an address", f"put the key into {KEY} and leave out ? and #")
    return address.rstrip("/")
