"""What may differ between the answers of two right servers, and nothing more.

Every rule below says why. Revisions, versions of keys, cluster and member ids and hashes have no
rule: fresh stores with the same flags and the same commands agree on them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """Replaces what the pattern finds; groups of the pattern may be kept by the replacement."""

    why: str
    pattern: str
    replacement: str


RULES = (
    Rule(
        "the client logs the time, an address of its own memory and its own port",
        r'"ts":"[^"]*"|etcd-endpoints://0x[0-9a-f]+|LocalAddr: \'127\.0\.0\.1:\d+\'',
        "<client>",
    ),
    Rule("how long it took", r"(took\"?(?: =|\[|:| :|) ?\"?)[\d.]+(?:[nµm]?s)\b", r"\1<time>"),
    Rule("how long it took", r'("Took" : )[\d.]+[nµm]?s\b', r"\1<time>"),
    Rule(
        "a first term depends on how a server bootstraps, not on what clients did",
        r'("raft_?[tT]erm":|"RaftTerm" : )\d+',
        r"\1<term>",
    ),
    Rule(
        "etcd logs its membership and version changes, and batches less",
        r'("raft(?:Applied)?Index":|"Raft(?:Applied)?Index" : )\d+',
        r"\1<index>",
    ),
    Rule(
        "the files are made differently",
        r'("dbSize(?:InUse)?":|"DBSize(?:InUse)?" : )\d+',
        r"\1<bytes>",
    ),
    Rule(
        "seconds pass differently between grant and question; tests check the value themselves",
        r'(remaining\(|"ttl":|"TTL" : )(?:\d+)(?=s\)|,"granted-ttl"|\n"GrantedTTL")',
        r"\1<seconds>",
    ),
    Rule(
        "the key of a lock or election candidate ends in the id of a lease the client made",
        r"(?<=/)[0-9a-f]{12,16}\b",
        "<session>",
    ),
    Rule(
        "a client that is interrupted logs its own cancelled call if one happens to be under way",
        r'(?m)^\{[^\n]*code = Canceled desc = context canceled"[^\n]*\}\n?',
        "",
    ),
)

COLUMNS = {
    "version": RULES[6].why,
    "storage version": RULES[6].why,
    "db size": RULES[5].why,
    "in use": RULES[5].why,
    "percentage not in use": RULES[5].why,
    "raft term": RULES[3].why,
    "raft index": RULES[4].why,
    "raft applied index": RULES[4].why,
    "took": RULES[1].why,
}
"""The same for the columns of tables, where a value has no name beside it."""

_COMPILED = [(re.compile(rule.pattern), rule.replacement) for rule in RULES]


def normalise(text: str, names: Mapping[str, str]) -> str:
    """Applies `names` (addresses and lease ids of one server, by what to write instead), then the
    rules."""
    for found, name in names.items():
        text = text.replace(found, name)
    for pattern, replacement in _COMPILED:
        text = pattern.sub(replacement, text)
    return text


def normalise_table(text: str) -> str:
    """The cells of a drawn table, without the widths that the values gave it."""
    rows = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in text.splitlines()
        if line.startswith("│")
    ]
    if not rows:
        return text
    head, *body = rows
    loose = [name.lower() in COLUMNS for name in head]
    kept = [
        ["<...>" if free else cell for free, cell in zip(loose, row, strict=True)] for row in body
    ]
    return "\n".join(" | ".join(row) for row in [head, *kept])
