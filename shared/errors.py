"""Every way a request can fail, as one tree. `code` is stable, messages are for people.

CaravanError
 - RequestError            the caller's fault; the same request will fail again
    - Unsupported          a field or value that is not honoured, by name
    - ContextTooLong       prompt longer than the context
    - UnknownModel         no such model
    - NotFound             no such thing (a stored response, a route)
    - TooLarge             body over the limit
    - BadTemplate          the model's chat template refuses these messages
 - CannotLoad              a model that no worker can load now; its file or its size is at fault
    - ModelTooBig          needs more memory than any live worker may give it
 - Unavailable             ours or nobody's; the same request may succeed later
    - QueueFull            over a limit; `retry_after_s` says when to come back
    - QueueDown            Redis does not answer
    - DeadlineExceeded     waited longer than allowed
    - WorkerCrashed        killed its worker twice without progress
    - Internal             a bug; the log has the trace

Dialects give them a status and a shape. On the wire they are events (`Failed`).
"""

from __future__ import annotations

from typing import ClassVar

from shared.events import Failed


class CaravanError(Exception):
    """Root of the tree. `param` names the field at fault, if one is."""

    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param

    def __str__(self) -> str:
        """The message, as it is by now."""
        return self.message

    def event(self) -> Failed:
        """The same, as the stream's last event."""
        return Failed(code=self.code, message=self.message, param=self.param)


class RequestError(CaravanError):
    """The caller's fault: do not send it again unchanged."""

    code = "invalid_request"


class Unsupported(RequestError):
    """A field that is known and not honoured."""

    code = "unsupported"

    def __init__(self, param: str, why: str) -> None:
        super().__init__(f"{param}: {why}", param=param)


class ContextTooLong(RequestError):
    """The prompt does not fit the model's context."""

    code = "context_length_exceeded"

    @classmethod
    def of(cls, *, prompt_tokens: int, context: int) -> ContextTooLong:
        """Both numbers in the message, as people need them."""
        return cls(
            f"the prompt has {prompt_tokens} tokens and this model's context holds {context}: "
            "shorten the messages or use a model with a longer context",
            param="messages",
        )


class UnknownModel(RequestError):
    """Nobody serves a model of this name."""

    code = "model_not_found"

    @classmethod
    def of(cls, name: str) -> UnknownModel:
        """Names the model and where to look."""
        return cls(
            f"model {name!r} not found: GET /v1/models lists what there is",
            param="model",
        )


class NotFound(RequestError):
    """No such thing."""

    code = "not_found"


class TooLarge(RequestError):
    """The body is over the limit."""

    code = "request_too_large"


class BadTemplate(RequestError):
    """The model's chat template refused the conversation, in its own words."""

    code = "template_error"


class CannotLoad(CaravanError):
    """The model's file was refused, or loading it failed; waiting alone will not help."""

    code = "model_load_failed"


class ModelTooBig(CannotLoad):
    """No live worker has the memory for it, with nothing else loaded."""

    code = "model_too_big"

    @classmethod
    def of(cls, name: str, *, needed_bytes: int, most_bytes: int) -> ModelTooBig:
        """Both numbers, and what would help."""
        return cls(
            f"unable to load {name}: it needs {needed_bytes / 2**20:.0f} MiB and the worker with "
            f"most room for models has {most_bytes / 2**20:.0f} MiB; a smaller quantisation, a "
            "shorter context or fewer slots need less",
            param="model",
        )


class Unavailable(CaravanError):
    """Not the caller's fault: the same request may succeed later."""

    code = "unavailable"


class QueueFull(Unavailable):
    """Too much is waiting already."""

    code = "queue_full"

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QueueDown(Unavailable):
    """Redis does not answer."""

    code = "queue_unavailable"

    def __init__(self, message: str = "the job queue (Redis) does not answer; try again") -> None:
        super().__init__(message)


class DeadlineExceeded(Unavailable):
    """The job waited longer than it was allowed to."""

    code = "deadline_exceeded"


class WorkerCrashed(Unavailable):
    """The job took its worker down more than once without progress."""

    code = "worker_crashed"


class Internal(Unavailable):
    """A bug on our side."""

    code = "internal_error"

    def __init__(self, message: str = "internal error; the server's log has the details") -> None:
        super().__init__(message)


def error_of(event: Failed) -> CaravanError:
    """The error a Failed event stands for, so that dialects map classes and codes in one place."""
    error: CaravanError
    match event.code:
        case Unsupported.code if event.param:
            error = Unsupported(event.param, event.message.removeprefix(f"{event.param}: "))
        case Unsupported.code:
            error = RequestError(event.message)
        case QueueFull.code:
            error = QueueFull(event.message)
        case QueueDown.code | Internal.code:
            error = CaravanError(event.message, param=event.param)
        case code:
            error = BY_CODE.get(code, CaravanError)(event.message, param=event.param)
    return error


BY_CODE: dict[str, type[CaravanError]] = {
    kind.code: kind
    for kind in (
        RequestError,
        ContextTooLong,
        UnknownModel,
        NotFound,
        TooLarge,
        BadTemplate,
        CannotLoad,
        ModelTooBig,
        Unavailable,
        DeadlineExceeded,
        WorkerCrashed,
    )
}
