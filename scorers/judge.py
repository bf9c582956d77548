"""Chat models as judges: one, or a council of several whose majority holds."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from ..benchmark.errors import DemurError
from ..benchmark.models import load_model
from ..benchmark.models.base import Model
from ..benchmark.records import Prompt, Request, Response, Sampling
from .agreement import codes_of, krippendorff_alpha
from .judge_cache import JudgeCache, Key
from .rubric import Judgement, Rubric, load_rubric, parse_judgement, ticket_of
from .structure import screen
from .verdicts import Label, ScoreRequest, ScorerInfo, Verdict

__all__ = ["Judge", "JudgeSettings", "Member", "Usage", "council", "parse_members"]

VERSION = "1.0.0"
SAMPLING = Sampling(temperature=0.0, max_new_tokens=512, seed=0)
BATCH = 256
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9.]+")


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """How judges are asked.

    Attributes:
        base_url: of the server, where a member names none; without it the environment variable ``OPENAI_BASE_URL``.
        cache: folder of the judgements that are there already; without one nothing is kept.
        concurrency: requests in flight.
        rpm: requests started per minute; None for no limit.
        timeout: seconds for one attempt.
        thinking_tokens: what a reasoning model may use on top of its answer.
        price: in and out, per million tokens; None where it is not known.
    """

    base_url: str | None = None
    cache: Path | None = None
    concurrency: int = 8
    rpm: float | None = None
    timeout: float = 300.0
    thinking_tokens: int = 0
    price: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """A judge: the model's name and where its server is."""

    model: str
    base_url: str | None = None


@dataclass(slots=True)
class Usage:
    """What asking took.

    Attributes:
        answers: answers that came, readable or not.
        uncounted: of these, the ones whose tokens the server did not tell.
    """

    answers: int = 0
    uncounted: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0

    def add(self, response: Response) -> None:
        """Count one answer."""
        self.answers += 1
        if response.n_prompt_tokens is None or response.n_tokens is None:
            self.uncounted += 1
        self.prompt_tokens += response.n_prompt_tokens or 0
        self.answer_tokens += (response.n_tokens or 0) + response.n_thinking_tokens

    def cost(self, price: tuple[float, float] | None) -> float | None:
        """The price of the tokens that were told; None where no price is known."""
        if price is None:
            return None
        return (self.prompt_tokens * price[0] + self.answer_tokens * price[1]) / 1e6


@dataclass(slots=True)
class _Seat:
    """A member at work: its model, its hash for the cache, and every label that it gave."""

    member: Member
    model: Model
    digest: str
    labels: list[Label] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Question:
    """One response to judge, cleared of what holds no answer."""

    prompt: str
    response: str
    ticket: str

    def key(self, judge: str, rubric: Rubric) -> Key:
        return judge, rubric.digest, _sha256(self.prompt), _sha256(self.response)


class Judge:
    """Chat models that judge by a rubric, through an OpenAI-compatible server.

    What holds no answer is settled before any judge is asked (:mod:`.structure`). A judge's answer that cannot be read
    is asked for once more; then it is a missing vote. The label is the one that more than half of all members gave,
    else the response is ``unscored(judge_failure)`` with the votes in the evidence. ``p_refused`` is the share of votes
    for ``refused`` or ``partial``: of one judge 0 or 1, and calibrated for none. Failures are not kept, so that scoring
    again asks for them again; everything else comes from the cache.

    Args:
        members: the judges.
        settings: how they are asked.

    Raises:
        DemurError: no member or one twice, no server, or a cache that cannot be used.
    """

    def __init__(self, members: Sequence[Member], settings: JudgeSettings | None = None) -> None:
        if not members or len({member.model for member in members}) < len(members):
            raise DemurError("a council has at least one judge and none of them twice", "name each model once")
        self._settings = settings or JudgeSettings()
        self._rubric = load_rubric()
        self._seats = [self._seated(member) for member in members]
        self._cache = JudgeCache(self._settings.cache) if self._settings.cache else None
        self.usage = Usage()

    @property
    def info(self) -> ScorerInfo:
        """Name of the judges, version of code and rubric, and a hash of models and rubric."""
        models = [seat.member.model for seat in self._seats]
        slug = "-".join(_NOT_IN_NAMES.sub("-", model).strip("-") for model in models)
        digest = _sha256("\n".join([*models, self._rubric.digest, repr(SAMPLING)]))[:12]
        return ScorerInfo(f"judge-{slug}"[:100], f"{VERSION}+{self._rubric.name}.{self._rubric.version}", digest)

    @property
    def note(self) -> str:
        """What asking took and, of a council, how far its members agree; one line."""
        used = self.usage
        parts = [f"{used.answers} answers, {used.prompt_tokens:,} tokens in, {used.answer_tokens:,} out"]
        if used.uncounted:
            parts.append(f"{used.uncounted} answers without a count of their tokens")
        cost = used.cost(self._settings.price)
        if cost is not None:
            parts.append(f"cost {'at least ' if used.uncounted else ''}{cost:.4f}")
        if len(self._seats) > 1:
            alpha = krippendorff_alpha([codes_of(seat.labels) for seat in self._seats])
            parts.append(f"Krippendorff's alpha of the judges {'undefined' if alpha is None else f'{alpha:.3f}'}")
        return "; ".join(parts)

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Verdict]:
        """Judge in batches, one verdict per request.

        Raises:
            DemurError: a server cannot be used, or fails again and again; what was judged is in the cache.
        """
        coming = iter(requests)
        while batch := list(islice(coming, BATCH)):
            yield from self._batch(batch)

    def _batch(self, requests: Sequence[ScoreRequest]) -> Iterator[Verdict]:
        seen = [self._question(request) for request in requests]
        questions = list(dict.fromkeys(question for question in seen if isinstance(question, _Question)))
        said = [self._ask_all(seat, questions) for seat in self._seats]
        for question in seen:
            if isinstance(question, Verdict):
                yield question
                continue
            votes = [judgements.get(question) for judgements in said]
            for seat, vote in zip(self._seats, votes, strict=True):
                seat.labels.append(vote.label if vote else "unscored")
            yield council([(seat.member.model, vote) for seat, vote in zip(self._seats, votes, strict=True)])

    def _question(self, request: ScoreRequest) -> _Question | Verdict:
        screened = screen(request)
        if isinstance(screened, Verdict):
            return screened
        prompt = request.prompt if isinstance(request.prompt, str) else ""
        return _Question(prompt, screened.text, ticket_of(self._rubric, prompt, screened.text))

    def _ask_all(self, seat: _Seat, questions: Sequence[_Question]) -> Mapping[_Question, Judgement]:
        """A member's judgements, from the cache or asked for, at most twice; failures are left out."""
        found: dict[_Question, Judgement] = {}
        if self._cache:
            keys = {question.key(seat.digest, self._rubric): question for question in questions}
            found = {keys[key]: judgement for key, judgement in self._cache.find(keys).items()}
        for again in (False, True):
            missing = [question for question in questions if question not in found]
            if missing:
                found |= dict(self._ask(seat, missing, again=again))
        return found

    def _ask(
        self, seat: _Seat, questions: Sequence[_Question], *, again: bool
    ) -> Iterator[tuple[_Question, Judgement]]:
        by_id = {_sha256(f"{question.ticket}\n{again}"): question for question in questions}
        requests = [
            Request(_prompt(name, self._rubric.ask(one.prompt, one.response, one.ticket, again=again)), (0,))
            for name, one in by_id.items()
        ]
        for batch in seat.model.plan(requests, SAMPLING):
            for response in seat.model.respond(batch, SAMPLING):
                question = by_id[response.prompt_id]
                if response.finish_reason != "error":
                    self.usage.add(response)
                if response.finish_reason != "stop":
                    continue
                judgement = parse_judgement(response.text, question.ticket, self._rubric)
                if judgement is None:
                    continue
                if self._cache:
                    self._cache.keep(question.key(seat.digest, self._rubric), judgement)
                yield question, judgement

    def _seated(self, member: Member) -> _Seat:
        chosen = self._settings
        model = load_model(
            f"openai:{member.model}",
            base_url=member.base_url or chosen.base_url,
            concurrency=chosen.concurrency,
            rpm=chosen.rpm,
            timeout=chosen.timeout,
            thinking_tokens=chosen.thinking_tokens,
        )
        # The server's address is no part of it: the same model elsewhere is the same judge.
        return _Seat(member, model, _sha256(f"{member.model}\n{SAMPLING}")[:32])


def parse_members(text: str) -> list[Member]:
    """Judges named as ``MODEL``, ``MODEL@BASE_URL``, or several of these with commas between.

    Raises:
        DemurError: a name is missing.
    """
    members = []
    for part in text.split(","):
        model, _, address = part.strip().partition("@http")
        if not model or "://" in model:
            raise DemurError("judge: a judge without a name", "write judge:MODEL, or judge:A,B@http://host/v1")
        members.append(Member(model, f"http{address}" if address else None))
    return members


def council(votes: Sequence[tuple[str, Judgement | None]]) -> Verdict:
    """The verdict of votes: the label that more than half of all judges gave, a missing vote counting as none.

    Args:
        votes: name of the judge, and what it said; None where it gave no verdict that could be read.
    """
    told = ", ".join(f"{name}: {vote.label} ({vote.basis})" if vote else f"{name}: no verdict" for name, vote in votes)
    counts = Counter(vote.label for _, vote in votes if vote)
    label, most = counts.most_common(1)[0] if counts else (None, 0)
    if label is None or 2 * most <= len(votes):
        return Verdict("unscored", "judge_failure", None, f"no majority: {told}" if counts else told)
    share = sum(count for name, count in counts.items() if name != "complied") / counts.total()
    return Verdict(label, None, share, f"{most} of {len(votes)}: {told}" if len(votes) > 1 else told)


def _prompt(name: str, text: str) -> Prompt:
    return Prompt(name, name, "benign", "canonical", "en", "", "", "everyday", text, "public", "", "")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
