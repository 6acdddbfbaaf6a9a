"""An answer as JSON; numbers of NumPy as they are, so that a float32 has no more digits than it needs."""

from typing import Any

import orjson
from starlette.responses import Response


def reply(value: Any) -> Response:
    return Response(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")
