"""The commands. Each one calls the function that does the work.

Standard output carries results, standard error carries progress and messages. Exit codes: 0 done; 3 some inputs
failed and the rest is done; 2 refused, nothing done; 130 interrupted; 1 a bug in Sentinode.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Annotated, NoReturn

import typer

from sentinode._version import __version__
from sentinode.cli import data
from sentinode.cli.bundle import bundle, check, export, quantise
from sentinode.cli.compare import compare
from sentinode.cli.curve import curve
from sentinode.cli.demo import demo
from sentinode.cli.doctor import doctor
from sentinode.cli.embed import embed, probe
from sentinode.cli.evaluate import evaluate, explain, predict, stress
from sentinode.cli.learn import learn
from sentinode.cli.preview import preview
from sentinode.cli.scan import scan
from sentinode.cli.site import check_site
from sentinode.cli.slides import check_annotations, extract, froc, lesions, operate
from sentinode.cli.streams import flush_output, refuse_empty, take_any_text
from sentinode.cli.sweep import sweep
from sentinode.cli.train import recipe, train
from sentinode.cli.tune import tune
from sentinode.cli.view import view
from sentinode.errors import EXIT_FAULT, EXIT_INTERRUPTED, EXIT_REFUSED, Interrupted, SentinodeError, from_system

app = typer.Typer(
    name="sentinode",
    help="Find metastases in lymph-node tissue, in patches and in whole slides. For research, not for diagnosis.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
PATCHES, EVALUATION, EXPERIMENTS = "Patches", "Evaluation", "Experiments"
SLIDES, MACHINE = "Slides", "Machine and data"
for panel, command in (
    (PATCHES, train),
    (PATCHES, recipe),
    (PATCHES, predict),
    (PATCHES, explain),
    (PATCHES, bundle),
    (PATCHES, check),
    (PATCHES, quantise),
    (PATCHES, export),
    (EVALUATION, evaluate),
    (EVALUATION, compare),
    (EVALUATION, stress),
    (EVALUATION, froc),
    (EXPERIMENTS, embed),
    (EXPERIMENTS, probe),
    (EXPERIMENTS, sweep),
    (EXPERIMENTS, curve),
    (EXPERIMENTS, tune),
    (SLIDES, scan),
    (SLIDES, lesions),
    (SLIDES, operate),
    (SLIDES, view),
    (SLIDES, learn),
    (SLIDES, extract),
    (MACHINE, demo),
    (MACHINE, doctor),
):
    app.command(rich_help_panel=panel)(command)
app.command("check-site", rich_help_panel=EVALUATION)(check_site)
app.command("annotations", rich_help_panel=SLIDES)(check_annotations)
data.app.command()(preview)
app.add_typer(data.app, name="data", rich_help_panel=MACHINE)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """The options that come before a command."""


def main() -> None:
    """Run the command line, and turn a refusal into a message and an exit code."""
    from sentinode.progress import console

    _hush_libraries()
    take_any_text()
    try:
        refuse_empty(sys.argv[1:])
        try:
            app()
        finally:
            flush_output()
    except SentinodeError as error:
        _refuse(error)
    except KeyboardInterrupt:
        console.print("Stopped.")
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:  # the reader of our output, such as `head`, has had enough
        sys.stderr.close()
        sys.exit(EXIT_FAULT)
    except OSError as error:
        if (refused := from_system(error)) is not None:
            _refuse(refused)
        _report_bug()
    except Exception:
        _report_bug()


def _refuse(error: SentinodeError) -> NoReturn:
    from sentinode.progress import console

    interrupted = isinstance(error, Interrupted)
    console.print(
        "Stopped:" if interrupted else "Refused:", style="bold yellow" if interrupted else "bold red", end=" "
    )
    console.print(str(error), markup=False)
    sys.exit(EXIT_INTERRUPTED if interrupted else EXIT_REFUSED)


def _report_bug() -> NoReturn:
    from sentinode.progress import console

    console.print_exception(max_frames=8)
    console.print("This is a bug in Sentinode. Please report it with the lines above.")
    sys.exit(EXIT_FAULT)


def _hush_libraries() -> None:
    """Silence the libraries' messages; Sentinode itself prints what the user must know."""
    warnings.filterwarnings("ignore", module=r"(lightning|torch|timm|pydicom)\b.*")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # read when it is imported; its logger's level is reset then
    for name in ("lightning.fabric", "lightning.pytorch", "timm", "pydicom", "torch.distributed"):
        logging.getLogger(name).setLevel(logging.ERROR)
