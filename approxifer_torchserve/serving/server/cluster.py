"""A client of TorchServe's Management API: register, scale, watch, remove.

Everything that starts workers is asked for asynchronously and then polled: a synchronous register
or scale holds TorchServe's frontend thread and stalls every client for seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from approxifer_torchserve.serving.server.tokens import TokenAuth, is_refusal

POLL_S = 0.25
# TorchServe often answers 500 when it takes a busy worker away; one less is left each time.
MAX_STUMBLES = 32


class ClusterError(RuntimeError):
    """The Management API refused, or the workers did not come.

    Attributes:
        status: The HTTP status, or None when there was no answer.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class _Reply(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")


class Worker(_Reply):
    """One worker as TorchServe describes it.

    Attributes:
        id: TorchServe's name for it, the number of its port ("9000").
        pid: Its process id; -1 while it has not started. Check before any signal.
        status: "READY" or "UNLOADING" (also while loading).
        gpu: Whether it was given a GPU.
        gpu_usage: TorchServe's sentence about it, with "gpuId::<n>" for a GPU.
        memory_usage: Its memory in bytes, 0 when unknown.
    """

    id: str
    pid: int = -1
    status: str = ""
    gpu: bool = False
    gpu_usage: str = ""
    memory_usage: int = 0

    @property
    def ready(self) -> bool:
        """Whether it can take jobs."""
        return self.status == "READY" and self.pid > 1


class JobQueueStatus(_Reply):
    """How full TorchServe's own queue is."""

    remaining_capacity: int = 0
    pending_requests: int = 0


class ModelDescription(_Reply):
    """One version of one registered model."""

    model_name: str
    model_version: str
    model_url: str = ""
    min_workers: int = 0
    max_workers: int = 0
    batch_size: int = 1
    max_batch_delay: int = 100
    response_timeout: int = 0
    loaded_at_startup: bool = False
    workers: list[Worker] = Field(default_factory=list)
    job_queue_status: JobQueueStatus = Field(default_factory=JobQueueStatus)

    @property
    def ready(self) -> int:
        """Number of workers that can take jobs."""
        return sum(worker.ready for worker in self.workers)


class ModelEntry(_Reply):
    """One line of the list of models."""

    model_name: str
    model_url: str = ""


Progress = Callable[[int, int], None]

HINTS = {
    400: "check the values that were sent",
    401: "send the 'management' key of key_file.json in the server's folder: --key-file FILE; if "
    "it has expired, have a new one written: GET /token?type=management with the file's API key",
    404: "the archive must lie in the server's model store under that name, or the model be "
    "registered: see GET /models",
    403: "the default version cannot be removed while others exist: choose another with "
    "set_default first",
    405: "registration over the API is off on this server: approxifer serve --enable-model-api, "
    "or enable_model_api=true in config.properties",
    409: "that version is registered already: remove it first, or archive with a higher --version",
    503: "the server is overloaded or starting",
    507: "the workers ran out of memory: fewer workers, or a smaller batch",
}


class Cluster:
    """The Management API of one TorchServe.

    Args:
        management: Base URL, such as "http://127.0.0.1:8081".
        token: Management token; None where authorization is off.
        key_file: TorchServe's key_file.json, where no token is given: the token comes from there,
            and again when the server refuses it because it has expired.
        timeout: Seconds for one call.

    Example:
        >>> with Cluster("http://127.0.0.1:8081") as cluster:  # doctest: +SKIP
        ...     cluster.register("digits.mar", workers=9)
        ...     cluster.describe("digits")[0].ready
        9
    """

    def __init__(
        self,
        management: str = "http://127.0.0.1:8081",
        token: str | None = None,
        *,
        key_file: str | Path | None = None,
        timeout: float = 60.0,
    ) -> None:
        auth = TokenAuth(token, key_file, "management")
        self.management = management
        self._http = httpx.Client(base_url=management, auth=auth, timeout=timeout)

    def __enter__(self) -> Cluster:
        """Returns itself."""
        return self

    def __exit__(self, *unused: object) -> None:
        """Closes the connections."""
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def _call(self, method: str, path: str, **params: str | int | bool | None) -> Any:
        given = {k: str(v).lower() if isinstance(v, bool) else v for k, v in params.items()}
        query = {k: v for k, v in given.items() if v is not None}
        try:
            reply = self._http.request(method, path, params=query)
        except httpx.HTTPError as error:
            raise ClusterError(
                f"no answer from the Management API at {self.management}: {error}; is a server "
                "running there? (approxifer serve, or --management URL)"
            ) from error
        try:
            body = reply.json()
        except ValueError:
            body = {"message": reply.text[:500]}
        if reply.is_success:
            return body
        said = body.get("message") or body.get("status") or body if isinstance(body, dict) else body
        status = 401 if is_refusal(reply) else reply.status_code
        hint = HINTS.get(status)
        raise ClusterError(
            f"{method} {path}: TorchServe answered {reply.status_code}: {said}"
            + (f" ({hint})" if hint else ""),
            status,
        )

    def list_models(self) -> list[ModelEntry]:
        """Returns the registered models (default versions only)."""
        entries: list[ModelEntry] = []
        page: str | None = None
        while True:
            body = self._call("GET", "/models", limit=100, next_page_token=page)
            entries += [ModelEntry.model_validate(entry) for entry in body.get("models", [])]
            page = body.get("nextPageToken")
            if page is None:
                return entries

    def describe(self, name: str, version: str | None = None) -> list[ModelDescription]:
        """Describes a model.

        Args:
            name: The model.
            version: A version, "all", or None for the default version.

        Returns:
            One description per version asked for.

        Raises:
            ClusterError: The model or version is not registered (status 404).
        """
        body = self._call("GET", _path(name, version))
        return [ModelDescription.model_validate(entry) for entry in body]

    def registered(self, name: str, version: str | None = None) -> bool:
        """Tells whether a model (or that version of it) is registered."""
        try:
            self.describe(name, version)
        except ClusterError as error:
            if error.status == 404:
                return False
            raise
        return True

    def register(
        self,
        url: str,
        *,
        name: str | None = None,
        workers: int | None = None,
        version: str | None = None,
        timeout: float = 180.0,
        progress: Progress | None = None,
    ) -> ModelDescription:
        """Registers an archive and waits for its workers; registering it again is not an error.

        Args:
            url: The archive's name in the model store, or a URL the server allows.
            name: The model's name; None takes the archive's own.
            workers: How many to start; None takes ``minWorkers`` of the archive.
            version: The archive's version, needed only where several are registered.
            timeout: Seconds until the workers must be ready.
            progress: Called with (ready, wanted) at each poll.

        Returns:
            The model when its workers are ready. Where the version was registered before, its
            archive was *not* read again.

        Raises:
            ClusterError: TorchServe refused, or the workers were not ready in time.
        """
        before = {entry.model_name for entry in self.list_models()}
        try:
            self._call(
                "POST", "/models", url=url, model_name=name, initial_workers=workers,
                synchronous=False,
            )  # fmt: skip
        except ClusterError as error:
            if error.status != 409:
                raise
        name, version = self._identify(url, name, version, before)
        wanted = workers
        if wanted is None:
            wanted = self.describe(name, version)[0].min_workers
        elif self.describe(name, version)[0].min_workers != wanted:
            # minWorkers in the archive outranks initial_workers.
            self.scale(name, wanted, version=version, wait=False)
        return self.wait_ready(name, wanted, version=version, timeout=timeout, progress=progress)

    def _identify(
        self, url: str, name: str | None, version: str | None, before: set[str]
    ) -> tuple[str, str | None]:
        """Returns the name and version that an archive was registered under."""
        names = [name] if name else [entry.model_name for entry in self.list_models()]
        # The list shows default versions only; a second version's archive has a name of its own.
        same = [
            model
            for each in names
            for model in self.describe(each, "all")
            if model.model_url == url and version in (None, model.model_version)
        ]
        if len(same) == 1:
            return same[0].model_name, same[0].model_version
        if name:
            return name, version
        new = [each for each in names if each not in before]
        if len(new) == 1:
            return new[0], version
        raise ClusterError(f"{url} was registered, but which model it became is unclear: give name")

    def scale(
        self,
        name: str,
        workers: int,
        *,
        version: str | None = None,
        wait: bool = True,
        timeout: float = 180.0,
        progress: Progress | None = None,
    ) -> ModelDescription:
        """Sets the number of workers.

        Args:
            name: The model.
            workers: How many there shall be; 0 keeps the model registered without any.
            version: A version of it; None for the default one.
            wait: Whether to return only when they are ready (and the others gone).
            timeout: Seconds to wait.
            progress: Called with (ready, wanted) at each poll.

        Raises:
            ClusterError: TorchServe refused, or the workers were not ready in time.
        """
        self._set_workers(name, version, workers)
        if not wait:
            return self.describe(name, version)[0]
        return self.wait_ready(name, workers, version=version, timeout=timeout, progress=progress)

    def _set_workers(self, name: str, version: str | None, workers: int) -> None:
        wanted = {"min_worker": workers, "max_worker": workers}
        for left in reversed(range(MAX_STUMBLES)):
            try:
                self._call("PUT", _path(name, version), **wanted, synchronous=False)
                return
            except ClusterError as error:
                if error.status != 500 or left == 0:
                    raise
                # It stumbled over a busy worker, which is gone; the others are still to go.
                time.sleep(POLL_S)

    def wait_ready(
        self,
        name: str,
        workers: int,
        *,
        version: str | None = None,
        timeout: float = 180.0,
        progress: Progress | None = None,
    ) -> ModelDescription:
        """Polls until exactly that many workers exist and all are ready.

        Raises:
            ClusterError: They were not in time, or the model went away meanwhile.
        """
        deadline = time.monotonic() + timeout
        while True:
            model = self.describe(name, version)[0]
            if progress is not None:
                progress(model.ready, workers)
            if model.ready == workers == len(model.workers):
                return model
            if time.monotonic() > deadline:
                states = ", ".join(f"{w.id} {w.status} pid {w.pid}" for w in model.workers)
                raise ClusterError(
                    f"{name}: {model.ready} of {workers} workers were ready after {timeout:g} s "
                    f"({states or 'none started'}); why is in model_log.log of the server's logs"
                )
            time.sleep(POLL_S)

    def set_default(self, name: str, version: str) -> None:
        """Makes a version the one that answers requests which name none."""
        self._call("PUT", f"{_path(name, version)}/set-default")

    def quarantine(self, name: str, worker: str) -> str:
        """Keeps a worker of a coded model from clients until it is readmitted.

        Args:
            name: The model.
            worker: The worker's id.

        Returns:
            What the plugin says.

        Raises:
            ClusterError: No coded model of that name has such a worker (404).
        """
        return str(self._call("PUT", f"/coded/{name}", quarantine=worker)["message"])

    def readmit(self, name: str, worker: str) -> str:
        """Gives a quarantined worker client work again; see `quarantine`."""
        return str(self._call("PUT", f"/coded/{name}", readmit=worker)["message"])

    def unregister(self, name: str, version: str | None = None) -> bool:
        """Removes a model, or one version; removing what is not there is not an error.

        Returns:
            Whether there was something to remove.
        """
        try:
            self._call("DELETE", _path(name, version))
        except ClusterError as error:
            if error.status == 404:
                return False
            # It stumbled over a busy worker; the plugin ends those that it then forgot.
            if error.status != 500 or self.registered(name, version):
                raise
        return True


def _path(name: str, version: str | None) -> str:
    path = f"/models/{quote(name, safe='')}"
    return path if version is None else f"{path}/{quote(version, safe='')}"
