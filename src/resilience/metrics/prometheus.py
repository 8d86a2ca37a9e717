"""Raw samples from Prometheus: everything between two instants that it stored for a selector, and nothing derived.

The one place that knows prometheus-api-client. That library returns ``data.result`` only and waits for ever by
default, so every call here has a time-out, names its instant, is not repeated behind our back, ignores the
environment's proxies, and reads the whole answer, warnings included.
"""

import math
from types import TracebackType
from typing import Any, Self

import msgspec
import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException

from resilience.errors import MetricsError
from resilience.history.record import Series

_SHOWN_MAX = 300


class _Range(msgspec.Struct, frozen=True):
    metric: dict[str, str]
    values: list[tuple[float, str]]


class _Data(msgspec.Struct, frozen=True):
    result_type: str = msgspec.field(name="resultType")
    result: list[_Range]


class _Answer(msgspec.Struct, frozen=True):
    status: str
    data: _Data
    warnings: list[str] = []
    infos: list[str] = []


class _Refusal(msgspec.Struct, frozen=True):
    error: str


class Prometheus:
    """A Prometheus server, asked for raw samples. Close it, or use it in a ``with`` statement."""

    def __init__(self, url: str) -> None:
        """``url`` as ``http://prometheus-0:9090``; nothing is asked yet."""
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.hooks["response"].append(self._keep)
        self._body = b""
        self._client = PrometheusConnect(url=url.rstrip("/"), session=self._session, retry=0)

    def samples(self, selector: str, start_wall_s: float, end_wall_s: float, timeout_s: float) -> tuple[Series, ...]:
        """All samples of all series of a selector in ``[start, end]`` (wall clock, seconds since 1970), oldest first.

        No series is an empty tuple. Raises `MetricsError`: no answer in time, a refusal, an answer with warnings or
        notes, or a sample that is no finite number.
        """
        width_ms = max(1, math.ceil((end_wall_s - start_wall_s) * 1_000))
        answer = self._ask(f"{selector}[{width_ms}ms]", f"{end_wall_s:.3f}", timeout_s)
        if doubts := [*answer.warnings, *answer.infos]:
            raise MetricsError(f"Prometheus answered with doubts: {_short('; '.join(doubts))}")
        if answer.status != "success" or answer.data.result_type != "matrix":
            raise MetricsError(f"Prometheus answered {answer.status} with a {answer.data.result_type}, not samples")
        return tuple(_series(selector, found) for found in answer.data.result)

    def close(self) -> None:
        """Closes the connections."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _keep(self, response: requests.Response, *_: Any, **__: Any) -> None:
        """The library keeps a part of the answer only; this keeps all of it."""
        self._body = response.content

    def _ask(self, query: str, time: str, timeout_s: float) -> _Answer:
        try:
            self._client.custom_query(query, params={"time": time, "timeout": f"{timeout_s:.3f}"}, timeout=timeout_s)
        except requests.JSONDecodeError:
            pass  # judged below, from the body itself
        except requests.RequestException as error:
            raise MetricsError(
                f"Prometheus gave no answer within {timeout_s:.1f} s ({type(error).__name__})"
            ) from error
        except PrometheusApiClientException as error:
            raise MetricsError(f"Prometheus refused: {_short(_refusal(self._body))}") from error
        except (KeyError, TypeError):
            pass  # likewise: an answer without data.result
        try:
            return msgspec.json.decode(self._body, type=_Answer)
        except msgspec.DecodeError as error:
            raise MetricsError(f"Prometheus' answer cannot be read: {_short(str(error))}") from error


def _refusal(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Refusal).error
    except msgspec.DecodeError:
        return body.decode("utf-8", "replace")


def _series(selector: str, found: _Range) -> Series:
    """Raises `MetricsError` for a value that is no finite number: it could not be counted."""
    values = tuple(float(value) for _, value in found.values)
    if not all(map(math.isfinite, values)):
        raise MetricsError(f"a sample of {_short(str(found.metric))} is not a finite number")
    return Series(selector, found.metric, tuple(time for time, _ in found.values), values)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_MAX else line[: _SHOWN_MAX - 1] + "…"
