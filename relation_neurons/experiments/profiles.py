"""The names of the sizes of experiments; `experiments.registry` says what each means."""

from typing import Literal

Profile = Literal["smoke", "demo", "full"]
