"""Which images there are: what each holds of the project, and which lists of packages.

A service's image holds the kit, the service and the contract, and the packages
of its own extra: where that has no numpy, the image has none. Standard library
only: the build of an image reads this before anything is installed.
"""

from __future__ import annotations

from dataclasses import dataclass

#: What can compute matrices; whoever lacks it is promised to stay below `MOST_MEGABYTES`.
SCIENTIFIC = ("numpy", "scipy", "scikit-learn", "pyarrow")
MOST_MEGABYTES = 250
#: Who runs in an image; the charts say the same.
USER = "10001:10001"


@dataclass(frozen=True)
class Image:
    """An image: its name, packages of `services/` in it, and extras of pyproject whose lists are installed.

    `main` is the module that it starts if nothing else is said; `data`: packages of requirements/data.txt
    are installed too.
    """

    name: str
    packages: tuple[str, ...]
    extras: tuple[str, ...]
    main: str
    data: bool = False

    @property
    def repository(self) -> str:
        """Its name in a registry; the charts ask for the one that holds everything."""
        return "pharmaloop" if self.name == "platform" else f"pharmaloop-{self.name}"

    @property
    def lists(self) -> tuple[str, ...]:
        """Files in requirements/ that it installs from."""
        return tuple(f"{extra}.txt" for extra in self.extras)


def _service(name: str) -> Image:
    return Image(name, (name,), (name, "tracing"), f"services.{name}.main")


#: The agents of hospitals and the evaluator are programs of `exchange`.
SERVICES = tuple(
    _service(name)
    for name in ("production", "traceability", "clinical", "alerting", "rnd", "loops", "exchange", "portal")
)
CLI = Image("cli", ("cli",), ("cli",), "services.cli.main")
#: Everything in one, as the charts install it: one image to mirror, one digest to pin.
PLATFORM = Image(
    "platform",
    (*(image.name for image in SERVICES), "cli", "world"),
    (*(image.name for image in SERVICES), "cli", "world", "tracing"),
    "services.cli.main",
    data=True,
)
IMAGES = {image.name: image for image in (*SERVICES, CLI, PLATFORM)}
