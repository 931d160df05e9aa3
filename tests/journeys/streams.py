"""A stream that is read line by line, beside whatever else a test does."""

import http.client
import json
import threading
from urllib.parse import urlsplit

from tests.journeys.launcher import Running


class Stream:
    """A streaming call in a thread. `first` is set at its first event."""

    def __init__(self, running: Running, model: str) -> None:
        self.events: list[str] = []
        self.first = threading.Event()
        self.broke: Exception | None = None
        self._running = running
        self._model = model
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        assert self.first.wait(10), "the stream does not begin"

    def is_whole(self) -> bool:
        return bool(self.events) and self.events[-1] == "[DONE]"

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _read(self) -> None:
        parts = urlsplit(self._running.url)
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=30)
        body = {"model": self._model, "messages": [{"role": "user", "content": "Hello"}], "stream": True}
        headers = {"authorization": f"Bearer {self._running.key}", "content-type": "application/json"}
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
            answer = connection.getresponse()
            while line := answer.readline():
                if line.startswith(b"data: "):
                    self.events.append(line.removeprefix(b"data: ").decode().strip())
                    self.first.set()
        except (OSError, http.client.HTTPException) as error:
            self.broke = error
        finally:
            connection.close()
