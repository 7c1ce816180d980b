"""The command itself: verbs are found by name and imported only when asked for."""

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING

import click

from lmi_compile.console import Console
from lmi_compile.errors import ExitCode, Interrupted, exit_code_of, to_json

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# verb -> (module of lmi_compile.cli, one line of help)
_VERBS = {
    "build": ("build", "compile, check, package, publish and prove a recipe"),
    "init": ("init_verb", "write a first recipe for a model and a target"),
    "matrix": ("matrix_verb", "plan and build many recipes at once; shared steps run once"),
    "dashboard": ("dashboard_verb", "write the history of matrix runs as static pages"),
    "plan": ("plan_verb", "say whether a recipe fits, what to expect, its steps; nothing is run"),
    "targets": ("target_verbs", "list the instance types, with filters"),
    "validate": ("recipe_verbs", "check recipes and report every problem"),
    "recipes": ("recipe_verbs", "list the catalogue"),
    "schema": ("recipe_verbs", "print the JSON Schema of recipes"),
    "list": ("artifact_verbs", "list the artifacts of a registry"),
    "show": ("artifact_verbs", "show one artifact: manifest, verdict, proof"),
    "pull": ("artifact_verbs", "copy an artifact out of a registry, every byte verified"),
    "resolve": ("registry_verbs", "find the newest artifact that a machine can load, or why none"),
    "diff": ("registry_verbs", "what differs between two artifacts"),
    "tag": ("registry_verbs", "move a tag, by compare-and-swap"),
    "promote": ("trust_verbs", "move a tag to an artifact that a policy accepts, on record"),
    "rollback": ("trust_verbs", "move a tag back to what its last promotion replaced"),
    "revoke": ("trust_verbs", "take an artifact back: nobody can pull or resolve it any more"),
    "sign": ("trust_verbs", "sign an artifact and its statements, or make a key pair"),
    "mirror": ("registry_verbs", "copy artifacts to another registry, verified"),
    "gc": ("registry_verbs", "remove what crashes left and what no tag or rule keeps"),
    "verify": ("check_verbs", "check an artifact's bytes, and its outputs with --against"),
    "report": ("report_verb", "show a verdict: HTML page, Markdown, JUnit"),
    "prove": ("check_verbs", "prove that serving an artifact compiles nothing"),
    "serve": ("serve_verb", "serve an artifact over HTTP: LMI, OpenAI and SageMaker requests"),
    "bench": ("bench_verbs", "measure what is served: throughput, latency, the knee, the cost"),
    "deploy": ("deploy_verbs", "put an artifact behind a SageMaker endpoint, or take it away"),
    "invoke": ("invoke_verb", "ask an artifact, a URL or an endpoint, with retries"),
    "export": ("deploy_verbs", "write a deployment for another host: docker"),
    "doctor": ("doctor_verb", "say what this machine has, lacks, and what that blocks"),
    "explain": ("explain_verb", "explain an error by its code"),
    "cache": ("cache_verbs", "look at the finished steps, or remove old ones: status, why, prune"),
}


class Verbs(click.Group):
    """A group whose first word is a verb, or a recipe: then the verb is `build`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every verb, in the order that a person meets them."""
        del ctx
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the verb's module and take the command from it."""
        del ctx
        if cmd_name not in _VERBS:
            return None
        module, text = _VERBS[cmd_name]
        found = importlib.import_module(f"lmi_compile.cli.{module}")
        verb: click.Command = getattr(found, cmd_name.replace("list", "list_artifacts"))
        verb.short_help = text
        return verb

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read `lmi-compile RECIPE ...` as `lmi-compile build RECIPE ...`."""
        own = {"--help", "-h", "--version"}
        if args and args[0] not in _VERBS and args[0] not in own:
            args = ["build", *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        """The verbs that begin so, and the recipes, since the verb `build` may be left out."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - only a shell asks

        from lmi_compile.cli.completion import recipe_names  # noqa: PLC0415 - as above

        verbs = [
            CompletionItem(verb, help=text)
            for verb, (_, text) in _VERBS.items()
            if verb.startswith(incomplete)
        ]
        recipes = recipe_names(None, None, incomplete) if not incomplete.startswith("-") else []
        if verbs and any(item.type == "file" for item in recipes):
            recipes = []
        return [*verbs, *recipes, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        del ctx
        with formatter.section("Verbs"):
            formatter.write_dl([(verb, text) for verb, (_, text) in _VERBS.items()])


@click.group(
    cls=Verbs,
    short_help="compile models ahead of time, check, package, publish and prove them",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 ok, 2 recipe, 3 not possible, 4 compile, 5 verification, 6 proof, "
    "7 publish, 8 environment, 9 part of a matrix failed, 10 artifact refused or not found, "
    "75 try again, 130 interrupted.",
)
@click.version_option(package_name="lmi-compile", prog_name="lmi-compile")
def command() -> None:
    """Compile models ahead of time, check them, package them, prove that serving compiles nothing.

    `lmi-compile RECIPE` builds a recipe: a YAML file, or a name from `lmi-compile recipes`.
    """


def run(args: Sequence[str]) -> int:
    """Run the command line `args`; returns the exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console()
    try:
        result = command.main(args=list(args), prog_name="lmi-compile", standalone_mode=False)
        console.out.flush()
        return result if isinstance(result, int) else ExitCode.OK
    except click.ClickException as error:
        error.show(sys.stderr)
        return ExitCode.USAGE
    except (KeyboardInterrupt, click.Abort):
        console.error(Interrupted("interrupted", fix="run the same command again"))
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), console.out.fileno())
        return ExitCode.OK
    except Exception as error:
        if os.environ.get("LMI_TRACEBACK"):
            raise
        console.error(error)
        code = exit_code_of(error)
        if "--json" in args:
            console.json({"error": dict(to_json(error)), "exit_code": int(code)})
        return code


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt
