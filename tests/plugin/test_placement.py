"""Each worker on its own GPU, also after scaling."""

import jpype


def placed(placement, *workers):
    ids = jpype.java.util.HashSet()
    for worker in workers:
        ids.add(worker)
    placement.update(ids)
    return {str(k): int(v) for k, v in placement.byWorker().items()}


def placement(core, *gpus):
    ids = jpype.java.util.ArrayList()
    for gpu in gpus:
        ids.add(jpype.java.lang.Integer(gpu))
    return core.Placement(ids)


def test_scaling_down_and_up_keeps_one_worker_per_gpu(core):
    four = placement(core, 0, 1, 2, 3)
    assert placed(four, "9000", "9001", "9002", "9003") == {f"900{i}": i for i in range(4)}
    assert placed(four, "9000", "9001") == {"9000": 0, "9001": 1}
    again = placed(four, "9000", "9001", "9004", "9005")
    assert again == {"9000": 0, "9001": 1, "9004": 2, "9005": 3}


def test_more_workers_than_gpus_share_evenly(core):
    two = placed(placement(core, 4, 5), *(f"900{i}" for i in range(5)))
    assert sorted(two.values()) == [4, 4, 4, 5, 5]


def test_a_cpu_model_places_nothing(core):
    assert placed(placement(core), "9000") == {}
