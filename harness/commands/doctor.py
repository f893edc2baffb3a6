"""`vzero-harness doctor`: is this machine able to do it, and if not, what to do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Exit, Option

from harness.commands import options
from vzero.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from harness.doctor.checks import Finding
    from harness.doctor.facts import Facts
    from harness.doctor.needs import Needs
    from harness.tables.table import Tone
    from vzero.config import Preset

_TONES: dict[str, Tone] = {"ok": "good", "warn": "warn", "fail": "bad"}


def doctor(
    preset: options.PresetName = "pocket",
    out: Annotated[Path, Option("--out", help="Where the run would write.")] = Path("runs"),
    quick: Annotated[bool, Option("--quick", help="No GPU query and no network either.")] = False,
    imports: Annotated[
        bool, Option("--imports", help="Import what the stages import as well, and make a plan; 20 s.")
    ] = False,
    set_: options.Set = None,
    json: options.Json = False,
) -> None:
    """Look for what would stop a run on this machine, and say how to fix it. Changes nothing; exit code 1 if
    something fails.

    Example: vzero-harness doctor --preset qwen2.5-vl-3b --imports
    """
    from dataclasses import asdict

    from harness.doctor.checks import diagnose
    from harness.doctor.facts import gather
    from vzero.presets import load_preset

    if quick and imports:
        raise InputError("--quick imports nothing; leave out one of --quick and --imports.")
    wanted = load_preset(preset, set_ or [])
    with options.console(True).status("looking at this machine ...") as status:
        begin = (lambda module: status.update(f"importing {module} ...")) if imports else None
        facts = gather(quick, wanted.model, out, begin)
        status.update("computing what the preset takes ...")
        asked = needs(wanted, facts)
        findings = [*diagnose(facts, asked), *_end_of_turn(wanted, facts), *_benchmarks(wanted)]
    failed = any(finding.level == "fail" for finding in findings)
    if json:
        checks = [asdict(one) for one in findings]
        options.out_json({"healthy": not failed, "quick": quick, "checks": checks})
    else:
        _show(findings, imports, options.console(json))
    raise Exit(1 if failed else 0)


def needs(preset: Preset, facts: Facts) -> Needs:
    """What `preset` asks for; disk and memory as `plan` computes them for the GPUs that are here."""
    from dataclasses import replace

    from harness.doctor.needs import needs_of

    least = needs_of(preset)
    if facts.quick or facts.imports or (facts.imports is None and not facts.gpus):
        return least  # a plan builds the model's layers, which imports torch
    from harness.perf.plan import plan
    from harness.perf.plan.work import BASE

    card = min(gpu.total for gpu in facts.gpus) / 1e9 if facts.gpus else None
    try:
        made = plan.make(preset, least.gpus, plan.choose_machine(least.gpus, None, card))
    except InputError:  # the model's config is not on disk yet, which the check of the model says
        return least
    fullest = int(max(phase.total for phase in made.phases))
    written = int(sum(made.disk.values()) - made.disk[BASE])
    return replace(
        least,
        gpu_memory=int(fullest / plan.FILL) if least.gpus else 0,
        memory=least.memory if least.gpus else max(least.memory, fullest),
        disk=max(least.disk, written),
        download=int(made.disk[BASE]),
    )


def _end_of_turn(preset: Preset, facts: Facts) -> list[Finding]:
    """Whether the model's answers end; nothing of one that is not on disk, or not to be looked at."""
    if facts.quick or facts.imports or not facts.model_on_disk:
        return []
    if preset.model == "pocket" and facts.imports is None:
        return []  # it takes a processor, which imports transformers
    from harness.doctor.checks import Finding
    from vzero.rollout.vocabulary import read_vocabulary
    from vzero.runtime.checkpoints import resolve

    try:
        repaired = read_vocabulary(resolve(preset.model), preset.engine.thinking).repaired
    except InputError as error:
        return [Finding("end of turn", "fail", "answers cannot be drawn", str(error))]
    if repaired:
        return [Finding("end of turn", "warn", repaired, "Name it in generation_config.json (eos_token_id).")]
    return [Finding("end of turn", "ok", "the checkpoint's files and its chat template agree")]


def _benchmarks(preset: Preset) -> list[Finding]:
    """Whether the benchmarks that a preset is to be measured on are there; nothing where it wants none."""
    from harness.doctor.checks import Finding
    from harness.evals.at_hand import absent, known_set_aside
    from harness.evals.catalogue import asked
    from harness.evals.set_aside import told

    try:
        suites, folder = asked(preset.evaluation), preset.evaluation.data
    except InputError as error:
        return [Finding("benchmarks", "fail", "cannot be asked for like this", str(error))]
    if missing := absent(suites, Path(folder).expanduser()):
        fetch = f"vzero-harness fetch --suites {','.join(missing)} --data {folder}"
        fix = f"Fetch them where there is a network: `{fetch}`."
        return [Finding("benchmarks", "fail", f"no {', '.join(missing)} in {folder}", fix)]
    wanted = [suite for suite in suites if not suite.drawn]
    try:
        known = [(suite.name, known_set_aside(suite, Path(folder).expanduser())) for suite in wanted]
    except InputError as error:
        return [Finding("benchmarks", "fail", f"{len(wanted)} in {folder}", str(error))]
    aside = ". ".join(f"{name}: {told(rows)}" for name, rows in known if rows)
    if aside:
        return [Finding("benchmarks", "warn", f"{len(wanted)} in {folder}", f"{aside}.")]
    return [Finding("benchmarks", "ok", f"{len(wanted)} in {folder}")] if wanted else []


def _show(findings: list[Finding], imported: bool, terminal: Console) -> None:
    from harness.tables.table import Cell, Table, keys, texts
    from harness.tables.terminal import show

    rows = [(one.name, Cell.of(one.level, tone=_TONES[one.level]), one.found, one.fix) for one in findings]
    fail, warn = (sum(one.level == level for one in findings) for level in ("fail", "warn"))
    summary = f"{fail} to fix, {warn} to know of, {len(findings) - fail - warn} in order"
    rest = [] if imported else ["Not tried: whether what is installed works together (--imports)."]
    columns = (*keys("check"), *texts("is", "found", "what to do"))
    show(Table("This machine", columns, [rows], [summary, *rest]), terminal)
