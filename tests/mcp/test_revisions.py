"""The codes with which errors of the framework leave."""

import pytest

from gemstone_sync.contract.builder import ALWAYS
from gemstone_sync.errors import InternalError
from gemstone_sync.mcp.revisions import code_for


@pytest.mark.parametrize("error", ALWAYS, ids=lambda error: error.__name__)
def test_each_error_of_the_framework_leaves_with_a_code_of_its_own(error):
    """The Model Context Protocol reserves -32000 to -32099, which JSON-RPC leaves to servers."""
    code = code_for(error())
    assert not -32099 <= code <= -32000
    assert code != InternalError.code or error is InternalError
