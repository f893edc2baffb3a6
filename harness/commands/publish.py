"""`vzero-harness publish`: a finished run for reviewers, as a folder or on the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from harness.commands import options
from vzero.errors import InputError

Pictures = Annotated[
    bool,
    Option("--pictures", help="Publish the pictures too; drawn ones always are. Mind their licences."),
]


def publish(
    run: Annotated[Path, Argument(metavar="RUN", help="A finished run.")],
    to: options.To,
    pictures: Pictures = False,
    public: options.Public = False,
    json: options.Json = False,
) -> None:
    """Write a finished run as a folder for reviewers: logbook, data set, checkpoint, hashes.

    Example: vzero-harness publish runs/pocket --to published
    """
    from harness.report import hub

    on_hub = to.startswith("hub:")
    if public and not on_hub:
        raise InputError("--public is of repositories on the hub; leave it out, or give --to hub:ORG/NAME.")
    if on_hub:
        hub.require_name(name := to.removeprefix("hub:"))
    folder = options.path_option(to)
    with options.working("Writing what is published"):
        from transformers.utils import logging

        from harness.report import publish as publications
        from harness.report.export import require_new

        logging.disable_progress_bar()
        if not on_hub:
            require_new(folder)
        publication = publications.prepare(run, pictures)
        if on_hub:
            places = publications.to_hub(publication, name, public)
        else:
            count = publications.to_folder(publication, folder)
    if on_hub:
        options.out_json({"to": places}, None) if json else options.out("\n".join(places))
        return
    said = f"{folder / publications.LOGBOOK}: {count} files, listed with their hashes in {publications.SUMS}"
    options.out_json({"to": str(folder), "files": count}, None) if json else options.out(said)
