"""What the server refuses with: the specification's codes and their statuses.

Source: OCI distribution-spec v1.1, "Error Codes".
"""

from __future__ import annotations

from typing import Any

from buildtool.errors import BuildtoolError

STATUS = {
    "BLOB_UNKNOWN": 404,
    "BLOB_UPLOAD_INVALID": 400,
    "BLOB_UPLOAD_UNKNOWN": 404,
    "DENIED": 403,
    "DIGEST_INVALID": 400,
    "MANIFEST_BLOB_UNKNOWN": 400,
    "MANIFEST_INVALID": 400,
    "MANIFEST_UNKNOWN": 404,
    "NAME_INVALID": 400,
    "NAME_UNKNOWN": 404,
    "PAGINATION_NUMBER_INVALID": 400,
    "RANGE_INVALID": 416,
    "SIZE_INVALID": 400,
    "TOOMANYREQUESTS": 429,
    "UNAUTHORIZED": 401,
    "UNSUPPORTED": 405,
    "UNKNOWN": 500,
}


class ApiError(BuildtoolError):
    """A refusal with a code of the specification; `detail` goes into the answer, `headers` onto it."""

    def __init__(
        self,
        code: str,
        message: str,
        detail: Any = None,
        *,
        status: int = 0,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.detail = detail
        self.status = status or STATUS[code]
        self.headers = headers or {}

    def document(self) -> dict[str, Any]:
        """The body of the answer."""
        error = {"code": self.code, "message": self.message}
        if self.detail is not None:
            error["detail"] = self.detail
        return {"errors": [error]}
