"""The figures of an ablation, in a file that grows with every model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mocgen.errors import OutputError

from .request import AblationRequest, Trial, read_trial

FILE = "ablations.json"


class Record:
    """Trials so far; with a folder they are kept there, and those of an interrupted run are taken up."""

    def __init__(self, request: AblationRequest, *, revision: str, seed: int, folder: Path | None) -> None:
        """Raises OutputError if the folder holds figures of other settings or cannot be written to."""
        self.request = request
        self.path = None if folder is None else folder / FILE
        self.trials: list[Trial] = []
        self._settings = {**request.fields(), "seed": seed, "revision": revision}
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists():
                self._take_up(json.loads(self.path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise OutputError(f"{self.path} cannot be gone on with: {error}; name another folder") from None

    def _take_up(self, fields: dict[str, Any]) -> None:
        different = [name for name, value in self._settings.items() if fields["settings"].get(name) != value]
        if different:
            raise ValueError(f"it was made with another {different[0]}")
        self.trials = [read_trial(trial) for trial in fields["trials"]]

    def add(self, trial: Trial) -> None:
        """Keep one more trial. Raises OutputError if it cannot be written."""
        self.trials.append(trial)
        if self.path is None:
            return
        partial = self.path.with_suffix(".part")
        try:
            partial.write_text(json.dumps(self.fields(), indent=1) + "\n", encoding="utf-8")
            partial.replace(self.path)
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}") from None

    def fields(self) -> dict[str, Any]:
        """What goes into the JSON file."""
        return {"settings": self._settings, "trials": [trial.fields() for trial in self.trials]}
