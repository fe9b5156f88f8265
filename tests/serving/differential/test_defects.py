"""What the differential test found, pinned."""

import pytest
from defects import DEFECTS
from serve import differences

PINNED = {
    f"{name}: {title}": (case, defect.was)
    for name, defect in DEFECTS.items()
    for title, case in defect.cases.items()
}


@pytest.mark.parametrize(("case", "was"), PINNED.values(), ids=PINNED)
def test_each_client_is_served_as_by_torchserve_alone(case, was, archives):
    assert differences(case, archives) == [], was
