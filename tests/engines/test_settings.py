from __future__ import annotations

from typing import Any

import pytest

from curate.errors import SettingError
from curate.settings import EngineSettings


@pytest.mark.parametrize("given", [{"ray_address": "local"}, {"workers": 2}, {"cpus": 2}])
def test_an_option_of_ray_is_refused_without_it(given: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match="is an option of engine='ray'"):
        EngineSettings(**given)
    assert EngineSettings("ray", **given)
