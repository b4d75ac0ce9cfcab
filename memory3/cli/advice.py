"""What to do next about services as they are: one sentence for each thing that is wrong.

The more urgent comes first. It must not ask anything; it looks at what was found.
"""

from __future__ import annotations

from collections.abc import Sequence

from memory3.cli.states import State

# Sequences that wait for each slot, before more decoders are the answer.
_WAITING_PER_SLOT = 4


def advise(states: Sequence[State]) -> bool:
    """Write into each state what to do about it.

    Returns:
        Whether services that are ready do not belong together.
    """
    for state in states:
        state.next = [*_of_health(state), *_of_info(state), *_of_metrics(state)]
    return _of_the_chain({state.service: state for state in states})


def _of_health(state: State) -> list[str]:
    name, variable = state.service, f"MEMORY3_{state.service.upper()}"
    if not state.live:
        return [
            f"start it: `memory3 up` for all three, or `python -m memory3_{name}`; if it runs "
            f"elsewhere, give --{name} HOST:PORT or set {variable}"
        ]
    if not state.ready:
        return ["it is loading or draining: wait, and look at the end of its log if it stays so"]
    if state.info is None:
        return [f"it is ready and does not answer calls ({state.health}): look into its log"]
    return []


def _of_info(state: State) -> list[str]:
    info = state.info or {}
    if state.service == "decoder" and info:
        if not info["retriever"]:
            return ["it runs without memories: start it with --retriever HOST:PORT to use them"]
        if info["num_waiting"] > _WAITING_PER_SLOT * info["num_slots"]:
            return [f"{info['num_waiting']} sequences wait: start more decoders"]
    return []


def _of_metrics(state: State) -> list[str]:
    found = state.metrics or {}
    advice = {
        "canary_mismatches": "a memory is not that of its reference: docs/operations/alerts.md, "
        "Memory3CanaryMismatch",
        "banks_damaged": "a bank is damaged and not served: `memory3 bank list`, then "
        "`memory3 bank repair NAME` or restore a snapshot",
        "breaker_open": "the cache fails: look at Redis; answers are the same meanwhile",
    }
    told = [text for name, text in advice.items() if found.get(name)]
    if (lag := found.get("replica_lag_s")) and lag > 300:
        told.append(f"it is {lag:.0f} s behind what is published: look into its log")
    return told


def _of_the_chain(by_name: dict[str, State]) -> bool:
    known = {name: state.info for name, state in by_name.items() if state.info is not None}
    digests = {name: str(info["checkpoint"]["digest"]) for name, info in known.items()}
    apart = len(set(digests.values())) > 1
    if apart:
        listed = ", ".join(f"{name} {digest[:12]}" for name, digest in digests.items())
        for name in digests:
            by_name[name].next.append(
                f"they have loaded different checkpoints ({listed}): start all with the same one"
            )
    versions = {name: str(info["version"]) for name, info in known.items()}
    if len(set(versions.values())) > 1:
        listed = ", ".join(f"{name} {version}" for name, version in versions.items())
        for name in versions:
            by_name[name].next.append(
                f"they are of different versions ({listed}): finish the update; the order is "
                "retriever, encoder, decoder"
            )
    return apart
