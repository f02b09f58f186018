"""Sessions of Claude Code: one JSONL file a session, of records of the user and the assistant. They have no outcome.

Files of subagents (`agent-*.jsonl`) are left out of a folder that has sessions.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.data.documents import describe_fault, drop_repeated, each_file, read_placed_values
from selfreg.data.faults import LogError
from selfreg.data.log_files import LogFile, plain_name
from selfreg.data.log_format import LogFormat, ReadOptions
from selfreg.data.samples import Sample
from selfreg.data.trajectory import Trajectory
from selfreg.data.turns import Content, Function, Turns, make_episode, read_content

with require_extra("logs", "selfreg.data"):
    import msgspec

# What Claude Code writes as the result of a call that the user refused, in several versions.
REJECTIONS = ("User rejected tool use", "The user doesn't want to ", "[Request interrupted by user")
# The model of messages that Claude Code makes up itself, such as "No response requested."
NO_MODEL = "<synthetic>"

# Commands of the interface itself, which no agent sees.
OWN_COMMANDS = (
    "add-dir", "agents", "clear", "compact", "config", "context", "cost", "doctor", "exit", "export", "fast", "help",
    "hooks", "ide", "login", "logout", "mcp", "memory", "model", "output-style", "permissions", "plugin", "rename",
    "resume", "rewind", "status", "statusline", "terminal-setup", "upgrade", "usage", "vim",
)  # fmt: skip
_COMMAND = re.compile(r"\s*(?:<command-message>[^<]*</command-message>\s*)?<command-name>/?([\w:-]+)</command-name>")


_SUBAGENT = re.compile(r"agent-.+\.jsonl.*")


class _Block(msgspec.Struct):
    type: str
    text: str | None = None
    name: str | None = None
    input: dict[str, Any] | str | None = None
    content: Content = None
    is_error: bool | None = None
    tool_use_id: str | None = None
    id: str | None = None


class _Message(msgspec.Struct):
    content: str | list[_Block]
    id: str | None = None
    model: str | None = None


class _Record(msgspec.Struct, rename="camel"):
    type: str | None = None
    message: _Message | None = None
    session_id: str | None = None
    stream_id: str | None = msgspec.field(
        default=None, name="session_id"
    )  # in what `--output-format stream-json` prints
    above: str | None = msgspec.field(default=None, name="parent_tool_use_id")  # the same of a subagent
    agent_id: str | None = None
    is_sidechain: bool = False
    parent_uuid: str | None = None
    is_meta: bool | None = None
    is_api_error_message: bool | None = None
    tool_use_result: Any = None
    version: str | None = None


class _Other(msgspec.Struct):
    """A record that is neither the user's nor the assistant's, such as a summary."""

    type: str | None = None
    attachment: Any = None


class _Queued(msgspec.Struct):
    """What the user wrote while the agent was at work, which comes to it as an attachment."""

    type: str
    prompt: str | list[_Block] | None = None


def _read(path: str, options: ReadOptions) -> Iterator[Trajectory]:
    placed = drop_repeated(read_placed_values(path), "uuid")
    records = [record for place, raw in placed if (record := _convert_record(place, raw)) is not None]
    main = [record for record in records if not record.is_sidechain]
    session = main or records  # the file of a subagent has no other records
    if not session:
        raise LogError("no record of type 'user' or 'assistant'")
    for part in _split_sessions(session):
        yield _convert_session(part, options)


def _split_sessions(records: list[_Record]) -> Iterator[list[_Record]]:
    """Sessions that one file holds one after another; one that goes on with an earlier one is of one piece with it."""
    start = 0
    for i, record in enumerate(records):
        if i > start and record.parent_uuid is None and record.session_id != records[i - 1].session_id:
            yield records[start:i]
            start = i
    yield records[start:]


def _convert_session(session: list[_Record], options: ReadOptions) -> Trajectory:
    turns = Turns()
    names: dict[str, str] = {}
    for record in _join_messages(session):
        if isinstance(record, list):
            _act(turns, record, names)
        elif not record.is_meta:
            _see(turns, record, names)
    first = session[0]
    name = first.session_id or plain_name(options.source)
    episode = f"{name}/{first.agent_id}" if first.is_sidechain and first.agent_id else name
    fields = {"agent": "claude_code", "version": first.version, "model": _first_model(session)}
    return make_episode(turns, None, episode, None, fields, where="type")


def _join_messages(session: list[_Record]) -> Iterator[_Record | list[_Record]]:
    """Records of the user, and all records of a message of the agent; results of its calls may stand among them."""
    ends = {_id(record): i for i, record in enumerate(session) if record.type == "assistant"}
    message: list[_Record] = []
    results: list[_Record] = []
    for i, record in enumerate(session):
        is_answer = record.type == "assistant"
        if message and (
            _id(record) != _id(message[0]) or _id(record) is None if is_answer else i > ends[_id(message[0])]
        ):
            yield message
            yield from results
            message, results = [], []
        if not message and not is_answer:
            yield record
        else:
            (message if is_answer else results).append(record)
    if message:
        yield message
    yield from results


def _convert_record(place: str, raw: Any) -> _Record | None:
    """A record of the user or the assistant; None for others, and for errors of the interface."""
    try:
        other = msgspec.convert(raw, _Other)
        if other.type == "attachment" and isinstance(raw, dict):
            raw = _take_queued(raw, other.attachment)
        elif other.type is None and isinstance(raw, dict) and "message" in raw:
            raise LogError(f"{place}: field 'type' is missing")
        elif other.type not in ("user", "assistant"):
            return None
        if raw is None:
            return None
        record = msgspec.convert(raw, _Record)
    except msgspec.ValidationError as error:
        raise LogError(f"{place}: {describe_fault(str(error))}") from None
    if record.message is None:
        raise LogError(f"{place}: field 'message' is missing")
    record.session_id = record.session_id or record.stream_id
    record.is_sidechain = record.is_sidechain or record.above is not None
    return None if record.is_api_error_message or record.message.model == NO_MODEL else record


def _take_queued(raw: dict[str, Any], attachment: Any) -> dict[str, Any] | None:
    """An attachment as the message of the user that it holds; None for others."""
    if not isinstance(attachment, dict) or attachment.get("type") != "queued_command":
        return None
    queued = msgspec.convert(attachment, _Queued)
    return {**raw, "type": "user", "message": {"content": attachment["prompt"]}} if queued.prompt else None


def _id(record: _Record) -> str | None:
    return record.message.id if record.message else None


def _blocks(record: _Record) -> list[_Block]:
    content = record.message.content if record.message else ""
    return [_Block("text", text=content)] if isinstance(content, str) else content


def _act(turns: Turns, records: list[_Record], names: dict[str, str]) -> None:
    """One message of the agent, which the log may hold in several records of one id."""
    blocks = [block for record in records for block in _blocks(record)]
    texts = [block.text for block in blocks if block.type == "text" and block.text]
    used = [block for block in blocks if block.type in ("tool_use", "server_tool_use", "mcp_tool_use")]
    names.update({block.id: block.name or "" for block in used if block.id})
    advised = any(block.type == "server_tool_use" and block.name == "advisor" for block in used)
    calls = [Function(block.name or "", block.input) for block in used]
    model = records[0].message.model if records[0].message else None
    turns.act("\n".join(texts), calls, model=model, intervention="advisor" if advised else None)


def _see(turns: Turns, record: _Record, names: dict[str, str]) -> None:
    blocks = _blocks(record)
    if record.tool_use_result == REJECTIONS[0] or any(map(_is_rejection, blocks)):
        turns.reject_last()
    for block in blocks:
        if block.type == "tool_result":
            turns.see(f"{names.get(block.tool_use_id or '') or 'tool'} returned: {read_content(block.content)}")
        elif not _is_of_interface(block.text or ""):
            turns.see(block.text if block.text is not None else f"[{block.type}]", by_user=True)


def _is_of_interface(text: str) -> bool:
    """Whether a text is a command of the interface, or what such a command printed."""
    command = _COMMAND.match(text)
    return text.startswith("<local-command-") or (command is not None and command[1] in OWN_COMMANDS)


def _is_rejection(block: _Block) -> bool:
    """Whether the user refused a call; what tools return may have the same words, but is no such error."""
    return block.type == "tool_result" and bool(block.is_error) and read_content(block.content).startswith(REJECTIONS)


def _first_model(records: list[_Record]) -> str | None:
    return next((r.message.model for r in records if r.type == "assistant" and r.message and r.message.model), None)


def leave_out_subagents(files: list[LogFile]) -> list[LogFile]:
    """Files of sessions, and those of subagents that the user has named or that stand alone."""
    whole = [file for file in files if not file.found or not _SUBAGENT.fullmatch(os.path.basename(file.path))]
    return whole or files


def _detect(sample: Sample) -> str | None:
    if sample.kind not in ("lines", "document"):
        return None
    for record in sample.objects():
        name = next((one for one in ("sessionId", "session_id") if one in record), None)
        if record.get("type") in ("user", "assistant") and name and "message" in record:
            return f"its records have type, {name} and message"
    return None


FORMAT = LogFormat(
    "claude_code",
    "sessions of Claude Code; no outcomes in them",
    read_file=each_file(_read),
    detect=_detect,
    merge_files=leave_out_subagents,
)
