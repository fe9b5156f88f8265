"""Serves a case both ways."""

from cases import Case
from oracle import expected, same
from world import Archives, Twin, Wrapped


def chunks(items: list, size: int) -> list[list]:
    """Cuts what waits into batches, as a frontend does whose queue is never empty."""
    return [items[at : at + size] for at in range(0, len(items), size)]


def differences(case: Case, archives: Archives) -> list[str]:
    """Returns what differs between TorchServe and the wrapped worker, in words."""
    alive, fresh = Twin(archives, case.spec), Twin(archives, case.spec)
    ours = Wrapped(archives, case.spec)
    found, count = [], 0
    for burst in case.bursts:
        named = [(f"r{count + i}", query) for i, query in enumerate(burst.queries)]
        count += len(named)
        wanted = []
        for chunk in chunks(named, case.spec.batch_size or 1):
            wanted += expected(case.spec, chunk, alive, fresh)
        got = []
        for at, chunk in enumerate(chunks(named, ours.batch_size)):
            got += ours.ask(chunk, burst.groups if at == 0 else ())
        for (name, query), mine, right in zip(named, got, wanted, strict=True):
            if not any(same(mine, theirs, query, case.spec) for theirs in right):
                found.append(f"{name} {query}:\n  got {mine}\n  wanted {right[0]}")
    return found


def responses(case: Case, archives: Archives) -> list[tuple[object, object]]:
    """Sends a case without frames; returns whole responses, (ours, TorchServe's)."""
    theirs, ours = Twin(archives, case.spec), Wrapped(archives, case.spec)
    found, count = [], 0
    for burst in case.bursts:
        named = [(f"r{count + i}", query) for i, query in enumerate(burst.queries)]
        count += len(named)
        for chunk in chunks(named, case.spec.batch_size or 1):
            found.append((ours.raw(chunk), theirs.raw(chunk)))
            if isinstance(found[-1][1], type):  # both processes ended
                theirs, ours = Twin(archives, case.spec), Wrapped(archives, case.spec)
    return found
