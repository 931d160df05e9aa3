"""A folder with a settings file in it, and what loading it says."""

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

from holdfast.kernel.errors import SettingsError
from holdfast.settings import Loaded, load

MODEL = """
[upstreams.openai]
dialect = "openai"
base_url = "https://api.openai.com/v1"

[models.chat]
lanes = ["openai/gpt-4o"]
"""


class Folder:
    """`file` is the settings file; what it says of problems is told without the folder, so that it can be compared."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path / "holdfast.toml"

    def write(self, text: str) -> None:
        self.file.write_text(dedent(text), "utf-8")

    def load(
        self,
        text: str | None = None,
        environ: Mapping[str, str] | None = None,
        flags: Mapping[str, object] | None = None,
    ) -> Loaded:
        if text is not None:
            self.write(text)
        return load(self.file, environ or {}, flags or {})

    def problems(
        self,
        text: str | None = None,
        environ: Mapping[str, str] | None = None,
        flags: Mapping[str, object] | None = None,
    ) -> list[str]:
        """The lines of the error; empty when the settings can be used."""
        try:
            self.load(text, environ, flags)
        except SettingsError as error:
            return error.message.replace(f"{self.path}/", "").splitlines()
        return []
