"""Who may publish, and where: the hub's address, a token, the right to write in a namespace. No torch."""

from __future__ import annotations

import os
from typing import Any

from robust_zoo import home
from robust_zoo.errors import UsageError
from robust_zoo.publishing.refusals import refusals
from robust_zoo.weights.addresses import is_private, without_secrets
from robust_zoo.weights.credentials import token
from robust_zoo.weights.whereabouts import HUB

_READERS = ("read",)  # roles in an organisation that may not write


def require_namespace(given: str) -> str:
    """Whose repositories they will be.

    Args:
        given: Of --namespace, "" for the project's own.

    Returns:
        A user's or an organisation's name on the hub.

    Raises:
        UsageError: None was given and the project has none, or it is no name.
    """
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    namespace = given or home.ORGANISATION
    try:
        if namespace and "/" not in namespace:
            validate_repo_id(f"{namespace}/name")
            return namespace
    except HFValidationError:
        pass
    raise UsageError(
        "in whose name?" if not namespace else f"{namespace!r} is no user or organisation of the hub",
        source="--namespace" if given else "robust_zoo.home.ORGANISATION, which is not set",
        expected="the name of a user or an organisation on the hub",
        actual=repr(namespace) if namespace else "none",
        next="--namespace NAME, your user name on the hub for a start",
    )


def endpoint() -> str:
    """The hub that is written to: HF_ENDPOINT, else huggingface.co.

    Returns:
        Its address.

    Raises:
        UsageError: A token would be told over plain http.
    """
    given = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/") or HUB
    if is_private(given):
        return given
    raise UsageError(
        "a token would be told over plain http",
        source=f"{without_secrets(given)} (HF_ENDPOINT)",
        expected="an address with https",
        actual=without_secrets(given),
        next="unset HF_ENDPOINT, or write https in it",
    )


def require_token() -> None:
    """That there is a token, before any work. Raises UsageError; no socket is opened."""
    if not (found := token()).header:
        raise UsageError(
            "publishing needs a token of the hub",
            source="HF_TOKEN, and the login of the hub's own command",
            expected="a token that may write",
            actual="none",
            next=f"{found.remedy}; tokens: {HUB}/settings/tokens",
        )


def require_writer(namespace: str, endpoint: str) -> None:
    """That the token's owner may write to the namespace; what a fine-grained token may do shows when it is used.

    Args:
        namespace: A user's or an organisation's name on the hub.
        endpoint: Of the hub.

    Raises:
        UsageError: Another's, or a token that only reads.
        Unavailable: The hub does not say.
    """
    from huggingface_hub import HfApi

    with refusals(namespace, endpoint, namespace):
        who: dict[str, Any] = HfApi(endpoint=endpoint).whoami()
    orgs = [org["name"] for org in who.get("orgs", []) if org.get("roleInOrg") not in _READERS]
    own = [who.get("name", ""), *orgs]
    role = who.get("auth", {}).get("accessToken", {}).get("role", "")
    if namespace in own and role != "read":
        return
    raise UsageError(
        f"this token may not write to {namespace}",
        source=endpoint,
        expected=f"--namespace {' or '.join(own)}" if namespace not in own else "a token that may write",
        actual=f"--namespace {namespace}" if namespace not in own else "a token that may only read",
        next=f"--namespace {own[0]}, or ask an owner of {namespace} for the role write"
        if namespace not in own
        else f"a token that may write: {HUB}/settings/tokens; then {token().remedy}",
    )
