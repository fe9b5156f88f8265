"""Which check an archive's answers get, and why a wish for one is refused.

A promise of tolerance that the plugin or the worker could not keep must fail here, while the
archive is made: a server would only show it when a worker lies.
"""

from __future__ import annotations

from dataclasses import dataclass

from approxifer_torchserve.codes import Code, LocatingCode, Mode
from approxifer_torchserve.serving.config import SECTION, ApproxiferConfig, ConfigError
from approxifer_torchserve.serving.plan import Check

VERIFY = f"{SECTION}.policy.verify"
BYZANTINE = f"{SECTION}.code.byzantine"
ON_WRONG = f"{SECTION}.policy.on_wrong"


@dataclass(frozen=True)
class Verification:
    """How answers are verified, as ``plan.json`` has it (docs/protocol.md).

    Attributes:
        check: What is done.
        agree: So many equal answers to one query settle it.
        screen_quorum: A late group is screened from so many coded queries; None without screens.
    """

    check: Check = "none"
    agree: int = 1
    screen_quorum: int | None = None


def verification(config: ApproxiferConfig, code: Code, mode: Mode, why: str) -> Verification:
    """Decides how answers are verified.

    Args:
        config: The user's settings.
        code: The code they ask for.
        mode: How the model will be served: the code's own mode, or ``uncoded`` where its handler
            cannot be coded.
        why: Why it cannot, for errors.

    Raises:
        ConfigError: The check that is asked for cannot be made; says which key, and what instead.
    """
    policy = config.policy
    if not config.enabled:
        return Verification()
    if code.byzantine:
        made = _by_code(config, code, mode, why)
    elif policy.verify == "pair":
        if mode == "coded":
            raise ConfigError(
                f"{VERIFY}: pair needs a code whose workers compute the queries themselves "
                "(systematic, replication, uncoded); this code encodes all of them"
            )
        made = Verification("pair", 2)
    elif policy.verify == "parity":
        made = _by_parity(code, mode, why)
    else:
        made = Verification()
    if not policy.idempotent and made.check != "none":
        what = "pair computes each request twice"
        if made.check != "pair":
            what = f"this check ({made.check}) computes requests more than once"
        raise ConfigError(f"{VERIFY}: {what}, which policy.idempotent: false forbids")
    if policy.on_wrong == "reconstruct" and (made.check != "screen" or not code.byzantine):
        raise ConfigError(
            f"{ON_WRONG}: reconstruct needs a systematic code with code.byzantine > 0, which tells "
            "whose answer is wrong; here leave it at reexecute"
        )
    return made


def _by_code(config: ApproxiferConfig, code: Code, mode: Mode, why: str) -> Verification:
    verify = config.policy.verify
    if verify == "pair":
        raise ConfigError(
            f"{VERIFY}: pair and code.byzantine: {code.byzantine} are two ways to one end; "
            "set verify to none, or byzantine to 0"
        )
    if mode == "replicated":
        if verify == "parity":
            raise ConfigError(
                f"{VERIFY}: parity needs a systematic code with a parity; {code.name} with "
                f"byzantine: {code.byzantine} has its copies vote: set verify to none"
            )
        return Verification("vote", code.byzantine + 1)
    if mode != code.mode:
        raise ConfigError(
            f"{BYZANTINE}: {code.name} cannot tell lies of this handler ({why}); use code.name: "
            "replication, whose copies vote, or byzantine: 0 with policy.verify: pair"
        )
    if not isinstance(code, LocatingCode):
        raise ConfigError(
            f"{BYZANTINE}: code {code.name} cannot locate wrong answers, got {code.byzantine}; "
            "use code.name: approxifer, pairs or replication"
        )
    plan = code.plan()
    if plan.quorum is None:
        raise ConfigError(
            f"{BYZANTINE}: no number of answers of {code.name} is sure to recover every query when "
            f"{code.stragglers} are late and {code.byzantine} wrong ({plan.note}); lower "
            "code.stragglers or code.byzantine, or use approxifer"
        )
    if mode == "coded":
        if verify == "parity":
            raise ConfigError(
                f"{VERIFY}: parity needs a systematic code; this one encodes every query and "
                "locates wrong answers when it decodes: set verify to none"
            )
        return Verification("locate", 2)
    return Verification("screen", 2, code.num_workers - code.stragglers)


def _by_parity(code: Code, mode: Mode, why: str) -> Verification:
    if mode != code.mode:
        raise ConfigError(
            f"{VERIFY}: parity needs a handler whose queries can be coded ({why}); use pair"
        )
    spare = code.num_workers - code.queries
    if mode != "systematic" or not isinstance(code, LocatingCode) or spare < 1:
        raise ConfigError(
            f"{VERIFY}: parity needs a systematic code with at least one parity that it can be "
            f"compared with (approxifer with systematic: true, pairs), got {code.name} ({mode}); "
            f"use {'one of those' if mode == 'coded' else 'pair'}"
        )
    if code.num_workers < 3:
        raise ConfigError(
            f"{VERIFY}: parity needs at least three answers to compare, got "
            f"{code.num_workers} of code.queries: {code.queries}; use pair"
        )
    return Verification("screen", 2, code.queries + 1)
