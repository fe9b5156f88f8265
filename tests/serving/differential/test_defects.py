"""What the differential test found, pinned; expected to fail, strictly, until it is fixed."""

import pytest
from defects import DEFECTS, Defect
from serve import differences


def _expected(defect: Defect) -> pytest.MarkDecorator:
    return pytest.mark.xfail(strict=True, raises=AssertionError, reason=defect.reason)


def _pinned():
    for name, defect in DEFECTS.items():
        marks = [] if defect.fixed else [_expected(defect)]
        for title, case in defect.cases.items():
            yield pytest.param(case, marks=marks, id=f"{name}: {title}")


@pytest.mark.parametrize("case", list(_pinned()))
def test_each_client_is_served_as_by_torchserve_alone(case, archives):
    assert differences(case, archives) == []
