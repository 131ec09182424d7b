"""What the server refuses with: the specification's codes and their statuses.

Source: OCI distribution-spec v1.1, "Error Codes": those of a 4xx answer are all in its table. UNKNOWN is for 5xx.
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
    "SIZE_INVALID": 400,
    "TOOMANYREQUESTS": 429,
    "UNAUTHORIZED": 401,
    "UNSUPPORTED": 405,
    "UNKNOWN": 500,
}


class ApiError(BuildtoolError):
    """A refusal with a code of the specification; `detail` goes into the answer, `headers` onto it.

    `others` are told in the same answer.
    """

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
        self.others: list[ApiError] = []

    def document(self) -> dict[str, Any]:
        """The body of the answer."""
        return {"errors": [error._entry() for error in (self, *self.others)]}

    def _entry(self) -> dict[str, Any]:
        error = {"code": self.code, "message": self.message}
        if self.detail is not None:
            error["detail"] = self.detail
        return error
