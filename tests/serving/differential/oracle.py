"""What "the same as under plain TorchServe" means. This is the only place that says it.

1. *Without the plugin's frames* a batch is TorchServe's own, whole: the response is the twin's byte
   for byte, failures of whole batches included; where the twin's process ends, so does ours.
2. *With frames* each client gets what the twin gives: status, phrase, content type, headers, body.
   a. If the twin's batch goes well, it is the twin's answer from the same batch. A batch goes well
      if no client gets an error in it who gets none alone.
   b. If it does not (one client's fault became everybody's), and for handlers whose answers do not
      depend on the batch by design, it is what the twin gives to a batch of that client alone. For
      handlers that do mix rows also: what it gives to a batch of those who are answered alone, with
      or without those whose answers cannot be sent. A batch that went well with errors in it may
      always have been answered one by one.
   c. The twin is one that has just started, so that nothing of failed requests is left in it. What
      the twin gives that lived through the same batches is right too, if that went well.
   d. Explanations and descriptions, and requests without a frame among jobs, are batches of
      their own: TorchServe looks at the first row's headers only.
3. *A failure* has the twin's status and message, with these exceptions:
   a. An error of a client's input in preprocess is told with its reason, 400 "preprocess refused
      the input: …", where the twin says 503 "Prediction failed" (docs/operations.md).
   b. A fault of the machine in preprocess may have any 5xx and words.
   c. Where the twin's client gets nothing, since the worker ends or its answer cannot be sent, it
      is any 5xx.
   d. No failure tells a path or a host of this machine.
"""

from cases import Query, Spec
from world import Outcome, Twin

INPUT = {"ValueError", "KeyError", "TypeError", "IndexError", "UnidentifiedImage"}
MACHINE = {"refused", "disk", "timeout", "missing", "http", "cuda", "memory"}
SECRETS = ("internal", "/srv", "model_reader", "secret")
UNSUPPORTED = "Unsupported model output data type."
REFUSED = "preprocess refused the input: "
Named = tuple[str, Query]


def expected(spec: Spec, named: list[Named], alive: Twin, fresh: Twin) -> list[list[Outcome]]:
    """Returns, for each request of a batch with frames, the outcomes that are right."""
    found: dict[str, list[Outcome]] = {}
    for unit in units(named):
        lone = []
        for one in unit:
            fresh.start()
            lone += fresh.ask([one])
        fresh.start()
        batches = [alive.ask(unit), fresh.ask(unit)]
        well = [batch for batch in batches if _went_well(batch, lone)]
        right = [list(of) for of in zip(*well, strict=True)] if well else [[] for _ in unit]
        if not well or not spec.mixing or any(ours.bad for batch in well for ours in batch):
            right = [[*of, alone] for of, alone in zip(right, lone, strict=True)]
        if not well and spec.mixing:
            good = [one for one, alone in zip(unit, lone, strict=True) if alone.kind == "answer"]
            whole = [
                one if one in good else (one[0], one[1].harmless())
                for one, alone in zip(unit, lone, strict=True)
                if one in good or _unsendable(one[1], alone)
            ]
            for batch in (good, whole) if good else ():
                fresh.start()
                together = dict(zip([i for i, _ in batch], fresh.ask(batch), strict=True))
                for one, of in zip(unit, right, strict=True):
                    of += [together[one[0]]] if one in good else []
        found.update(zip([i for i, _ in unit], right, strict=True))
    return [found[i] for i, _ in named]


def _unsendable(query: Query, alone: Outcome) -> bool:
    return not query.ask("fails") and (alone.kind == "nothing" or alone.phrase == UNSUPPORTED)


def units(named: list[Named]) -> list[list[Named]]:
    """Splits a batch into those that are served together."""
    rest = [one for one in named if one[1].framed and one[1].url == "predictions"]
    special = [one for one in named if one[1].framed and one[1].url != "predictions"]
    outside = [one for one in named if not one[1].framed]
    return [unit for unit in [outside, *([one] for one in special), rest] if unit]


def _went_well(batch: list[Outcome], lone: list[Outcome]) -> bool:
    return all(
        ours.kind == "answer" and (not ours.bad or alone.bad)
        for ours, alone in zip(batch, lone, strict=True)
    )


def same(ours: Outcome, theirs: Outcome, query: Query, spec: Spec) -> bool:
    """Tells whether a client is served as the twin's was."""
    if theirs.kind == "answer":
        return ours.seen == theirs.seen
    if ours.kind != "failure" or any(secret in ours.phrase for secret in SECRETS):
        return False
    if theirs.kind == "nothing":
        return 500 <= ours.status < 600
    step, _, error = str(query.ask("fails") or ":").partition(":")
    if step == "preprocess" and error in MACHINE and 500 <= ours.status < 600:
        return True
    if spec.form == "steps" and ours.status == 400 and ours.phrase.startswith(REFUSED):
        # Without a planned error: what is wrong with the input was seen by the code itself.
        return (step, error) == ("", "") or (step == "preprocess" and error in INPUT)
    return ours.seen == theirs.seen
