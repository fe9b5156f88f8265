"""Groups whose answers are screened, with workers w0, w1, … that the test plays."""


def parity_check(bench, workers=6, **options):
    """`verify: parity`: K=3, S=1, E=0. One parity can tell that something is wrong, not what."""
    b = bench(mode="systematic", check="screen", screen_quorum=4, **options)
    return _started(b, workers)


def byzantine(bench, workers=9, **options):
    """K=2, S=1, E=1: seven coded queries on seven workers, and a screen from six on."""
    b = bench(
        mode="systematic",
        check="screen",
        code={"name": "approxifer", "stragglers": 1, "byzantine": 1},
        queries=2,
        num_workers=7,
        quorum=6,
        screen_quorum=6,
        **options,
    )
    return _started(b, workers)


def _started(b, workers):
    b.live(*(f"w{i}" for i in range(workers)))
    b.watch_restarts()
    return b


def hand_out(b, n=4):
    """Job i of a group goes to worker wi: its members first, then its parities."""
    return [b.poll(f"w{i}") for i in range(n)]


def respond(b, jobs, lies=()):
    """Answers members and parities; those in `lies` answer wrong."""
    for i, job in enumerate(jobs):
        wrong = i in lies
        prediction = f"LIE{i}".encode() if wrong else f"P{i}".encode()
        if job.kind() == "parity":
            b.reply(job, [("prediction", prediction)])
        else:
            b.answer(job, b"lie" if wrong else f"a{i}".encode(), prediction=prediction)


def screen(b, worker, wrong=(), suspected=()):
    """The worker screens a group; returns what it was sent."""
    job = b.poll(worker)
    assert job.kind() == "screen"
    b.reply(job, wrong=list(wrong), suspected=list(suspected))
    return b.job(job)


def again(b, worker, i):
    """The worker computes member i again, right."""
    job = b.poll(worker)
    assert job.kind() == "hedge"
    b.answer(job, f"a{i}".encode(), prediction=f"P{i}".encode())


def compare(b, worker, agree):
    job = b.poll(worker)
    assert job.kind() == "compare"
    b.reply(job, agree=agree)


def account(b, key="confirmed_wrong"):
    """A number of each worker's account, for those where it is not 0."""
    accounts = {name: account[key] for name, account in b.router.report()["workers"].items()}
    return {name: number for name, number in accounts.items() if number}


def quiet(b):
    """True once nothing is left of any query: no client, job, group or task."""
    state = b.router.report()
    names = ("in_flight", "waiting", "outstanding_jobs", "open_groups", "unscreened_groups")
    return {name: state[name] for name in names if state[name]} == {}


def settle_by_pairs(b, clients, workers):
    """Other workers compute what is asked again until nothing is; all answers agree."""
    for _ in range(50):
        jobs = [job for w in workers if (job := b.poll(w)) is not None]
        if not jobs:
            break
        for job in jobs:
            assert job.kind() in ("raw", "hedge")
            client = next(c for c in clients if c.proxy.request() == job.client().request())
            i = clients.index(client)
            b.answer(job, f"a{i}".encode(), prediction=f"P{i}".encode())


def only_right_answers(clients):
    return [client.reply[1] for client in clients] == [
        f"a{i}".encode() for i in range(len(clients))
    ]
