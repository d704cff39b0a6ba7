"""What the hub refuses, as errors with five fields: a row for each status, one for what never reached it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from robust_zoo.errors import Refused, Unavailable, UsageError, ZooError
from robust_zoo.weights.credentials import redacted, token
from robust_zoo.weights.whereabouts import HUB

_UNCHANGED = "no file there was changed"
_CLIENTS = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3")  # what huggingface_hub asks through


@dataclass(frozen=True)
class Refusal:
    """What a status of the hub means here.

    Attributes:
        message: What happened; {repo} is the repository.
        expected: What would have been right.
        next: What to do; {remedy} is what to do about the token.
        error: The kind of error, which has the exit code.
    """

    message: str
    expected: str
    next: str
    error: type[ZooError] = UsageError


STATUSES = {
    401: Refusal("the hub does not accept this token", "a token of the hub that is valid", "{remedy}"),
    403: Refusal(
        "this token may not write to {repo}",
        "a token with the permission to write there",
        f"a token that may write: {HUB}/settings/tokens; then {{remedy}}",
    ),
    404: Refusal(
        "there is no {repo}, or this token may not see it",
        "a repository that can be written to",
        f"check --namespace, and what the token may do: {HUB}/settings/tokens",
    ),
    409: Refusal(
        "{repo} is being changed, or moved, by someone else",
        "a repository that no one else is changing",
        "the same command again in a minute: it goes on where it was",
        Unavailable,
    ),
    412: Refusal(
        "someone else published to {repo} meanwhile",
        "the commit that was there when this began",
        "the same command again: it looks at what is there now",
        Unavailable,
    ),
    413: Refusal(
        "a file is larger than the hub, or a proxy on the way, takes",
        "a file of a size that is taken",
        "ask whoever runs the proxy, or the hub, for a larger limit; then the same command again",
        Unavailable,
    ),
    429: Refusal(
        "the hub asks for patience",
        "fewer requests in the same time",
        "the same command again in an hour: what is published already is left alone",
        Unavailable,
    ),
}
_OTHER = Refusal(
    "the hub did not say that it is done",
    "an answer that says so",
    "the same command again later: it looks at what is there",
    Unavailable,
)
_CUT = Refusal(
    "the connection to the hub failed",
    "a connection that stays",
    "the same command again: it looks at what is there, and sends nothing twice",
    Unavailable,
)


@contextmanager
def refusals(repo: str, endpoint: str, name: str) -> Iterator[None]:
    """Whatever huggingface_hub raises in the block, as an error of ours.

    Args:
        repo: "ORGANISATION/NAME".
        endpoint: Of the hub.
        name: The checkpoint's.

    Raises:
        UsageError: The token is not accepted, or may not write there (exit code 2).
        Unavailable: Someone else was first, or the hub is away or refuses the size (exit code 3).
        Refused: The hub finds the card's head malformed (exit code 6).
    """
    try:
        yield
    except Exception as error:
        if found := explained(error, repo, endpoint, name):
            raise found from error
        raise


def explained(error: BaseException, repo: str, endpoint: str, name: str) -> ZooError | None:
    """One of its errors as ours.

    Args:
        error: What was raised, with its causes.
        repo: "ORGANISATION/NAME".
        endpoint: Of the hub.
        name: The checkpoint's.

    Returns:
        An error to raise, None where neither the hub nor the way to it is the cause.
    """
    chain = list(_chain(error))
    where = {"model": name, "source": f"{endpoint}/{repo}"}
    if str(error).startswith("Invalid metadata in README.md"):
        return Refused(
            f"the hub refuses the head of the card of {name}; {_UNCHANGED}",
            expected="YAML that the hub accepts, a licence that it knows among it",
            actual=redacted(" ".join(str(error).split())),
            next=f"robust-zoo publish {name} --dry-run --out FOLDER   writes the card to look at: README.md",
            **where,
        )
    responses = [found for one in chain if (found := getattr(one, "response", None)) is not None]
    status = responses[0].status_code if responses else 0
    if not status and not any(isinstance(one, ConnectionError | TimeoutError) or _of(one) in _CLIENTS for one in chain):
        return None
    row = STATUSES.get(status, _OTHER) if status else _CUT
    unchanged = f"; {_UNCHANGED}" if status in STATUSES else ""  # else its answer alone may have been lost
    said = next((text for one in chain if (text := getattr(one, "server_message", None))), None)
    said = redacted(" ".join(str(said or chain[-1]).split()))
    return row.error(
        f"{row.message.format(repo=repo)}{unchanged}",
        expected=row.expected,
        actual=f"status {status}: {said}" if status else f"{type(chain[-1]).__name__}: {said}",
        next=row.next.format(remedy=token().remedy) if "{remedy}" in row.next else row.next,
        **where,
    )


def _of(error: BaseException) -> str:
    """The library whose error it is."""
    return type(error).__module__.split(".")[0]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and its causes, down to the first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
