"""Checks of the Hugging Face token and of the network."""

from __future__ import annotations

import threading

import huggingface_hub
import requests
from huggingface_hub import constants as hub_constants

from relation_neurons.doctor.checks import Check

HUB_SECONDS = 3.0
"""Seconds to wait for the model hub."""


def token_check(name: str) -> Check:
    """Whether a Hugging Face token is set, without showing it."""
    if huggingface_hub.get_token():
        return Check(name, "ok", "a Hugging Face token is set")
    return Check(name, "note", "no Hugging Face token", "for gated models, such as Llama-2, set HF_TOKEN")


def hub_check(name: str) -> Check:
    """Whether the model hub responds to one request without the token; skipped if offline."""
    if hub_constants.HF_HUB_OFFLINE:
        return Check(name, "ok", "not checked, because HF_HUB_OFFLINE is set: models come from the cache only")
    problems: list[str] = []

    def request() -> None:
        try:
            status = requests.head(hub_constants.ENDPOINT, timeout=HUB_SECONDS, allow_redirects=False).status_code
            problems.append("" if status < 500 else f"responds with status {status}")
        except Exception as error:  # a thread's traceback would be printed
            problems.append(f"does not respond ({type(error).__name__})")

    # The timeout of a request applies to each address of the host separately, and not to the name lookup.
    thread = threading.Thread(target=request, daemon=True)
    thread.start()
    thread.join(HUB_SECONDS)
    problem = problems[0] if problems else f"does not respond within {HUB_SECONDS:.0f} s"
    if not problem:
        return Check(name, "ok", f"{hub_constants.ENDPOINT} responds")
    do = "to work offline, set HF_HUB_OFFLINE=1 and use smollm2-135m, cached models, folders or .gguf files"
    return Check(name, "warning", f"{hub_constants.ENDPOINT} {problem}", do)
