"""Whatever the Hub, the network or the disk raises → one line that says what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from .cache import DEFAULT_REVISION
from .errors import WeightsError


@contextmanager
def explained(repo: str, revision: str | None) -> Iterator[None]:
    """Whatever the Hub, the network or the disk raises, as a WeightsError that says what to do."""
    from httpx2 import HTTPError
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError:
        raise WeightsError(
            f"{repo} is gated: accept its terms on the Hub's page of it, then log in with `hf auth login` "
            "or set HF_TOKEN"
        ) from None
    except RevisionNotFoundError:
        raise WeightsError(f"{repo} has no revision {revision or DEFAULT_REVISION}") from None
    except HfHubHTTPError as error:
        if error.response.status_code in (401, 404):  # without a log-in, what is not there is 401
            raise WeightsError(
                f"{repo} is no folder here, and there is no such repository on the Hub (or it is private: "
                "then log in with `hf auth login`)"
            ) from None
        if error.response.status_code >= 500:
            raise Unreachable(repo, error) from None
        raise WeightsError(f"the Hub refused {repo}: {_first_line(error)}") from None
    except (HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise Unreachable(repo, error) from None
    except OSError as error:
        raise WeightsError(_disk_trouble(repo, error)) from None


class Unreachable(WeightsError):
    """No connection, or one that broke: `reason`."""

    def __init__(self, repo: str, error: Exception) -> None:
        self.reason = _first_line(error)
        super().__init__(
            f"the connection broke while fetching {repo} ({self.reason}); what came is kept, and the next "
            "run goes on from there"
        )


def _disk_trouble(repo: str, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return (
            f"the disk is full while fetching {repo}; make room, or set HF_HOME to a folder on another disk; "
            "the next run goes on from there"
        )
    return f"cannot fetch {repo}: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
