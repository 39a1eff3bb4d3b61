"""Two transcripts of one sequence: where they differ, in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import Message

from conformance.differential.client import Failure
from conformance.differential.differences import normalise
from conformance.differential.run import Answer, Transcript
from kvshim.pb.etcd import rpc_pb2


@dataclass(frozen=True, slots=True)
class Difference:
    """The first answer that is not the same, as text."""

    label: str
    expected: str
    answered: str

    @property
    def signature(self) -> str:
        """The same for differences that are likely to have one cause."""
        method = re.sub(r"\d+", "", self.label)
        lines = set(self.expected.splitlines()) ^ set(self.answered.splitlines())
        names = sorted({line.split(":")[0].strip() for line in lines})
        failures = [side for side in (self.expected, self.answered) if side.startswith("fails")]
        return f"{method} {names} {failures}"

    def __str__(self) -> str:
        return f"{self.label}\n--- expected\n{self.expected}\n--- answered\n{self.answered}"


def first_difference(expected: Transcript, answered: Transcript) -> Difference | None:
    """The first answer that differs in more than it may; None if there is none."""
    pairs = zip(expected.answers, answered.answers, strict=False)
    for (label, left), (other_label, right) in pairs:
        if label != other_label:
            return Difference(label, "is told", f"{other_label} is told")
        left, right = _joined(left), _joined(right)  # noqa: PLW2901
        chosen = bool(expected.names or answered.names)
        _forget_hash(left, expected.base, chosen=chosen)
        _forget_hash(right, expected.base, chosen=chosen)
        if _equal(left, right):
            continue
        texts = shown(left, expected), shown(right, answered)
        if texts[0] != texts[1]:
            return Difference(label, *texts)
    longer = max(expected, answered, key=lambda transcript: len(transcript.answers))
    if len(expected.answers) != len(answered.answers):
        label, answer = longer.answers[min(len(expected.answers), len(answered.answers))]
        text = shown(_joined(answer), longer)
        here, there = (text, "nothing") if longer is expected else ("nothing", text)
        return Difference(label, here, there)
    return None


def _joined(answer: Answer) -> Answer:
    """A streamed range as one answer: how it is cut depends on sizes in memory."""
    if isinstance(answer, list) and answer and isinstance(answer[0], rpc_pb2.RangeStreamResponse):
        whole = rpc_pb2.RangeResponse()
        for part in answer:
            whole.MergeFrom(part.range_response)  # type: ignore[attr-defined]
        return whole
    return answer


def _forget_hash(answer: Answer, base: int, *, chosen: bool) -> None:
    """It is of the ids of leases too, and these differ where the server chose them: in this
    sequence, or in one before it, which an old compaction's hash tells of."""
    if isinstance(answer, rpc_pb2.HashKVResponse) and (chosen or answer.hash_revision <= base):
        answer.ClearField("hash")


def _equal(left: Answer, right: Answer) -> bool:
    for answer in (left, right):
        for part in answer if isinstance(answer, list) else [answer]:
            if isinstance(part, Message):
                normalise(part)
    return type(left) is type(right) and left == right


def shown(answer: Answer, transcript: Transcript) -> str:
    """An answer as text, with names in the place of ids that the server chose."""
    match answer:
        case Failure():
            return f"fails: {answer.code} {answer.text}"
        case list():
            return "\n".join(shown(part, transcript) for part in answer)
        case Message():
            return _named(answer, transcript)
    return answer


def _named(answer: Message, transcript: Transcript) -> str:
    names = transcript.names
    if names or transcript.sessions:
        _sort(answer, names)
    text = text_format.MessageToString(answer)
    for number, name in names.items():
        text = re.sub(rf"\b{number}\b|(?<=/){number:x}\b", name, text)
    return text


def _sort(answer: Any, names: Mapping[int, str]) -> None:
    """By name what comes in the order of ids that the server chose, or in one of luck."""
    for field in ("members", "leases"):
        if items := getattr(answer, field, None):
            ordered = sorted(items, key=lambda item: names.get(item.ID, str(item.ID)))
            answer.ClearField(field)
            getattr(answer, field).extend(ordered)
