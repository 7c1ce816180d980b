"""The verb that serves an artifact over HTTP."""

from typing import TYPE_CHECKING

import click

from lmi_compile.cli.options import registry_of, settings_options, voice_options
from lmi_compile.cli.trees import checked_tree
from lmi_compile.console import Console
from lmi_compile.errors import EnvironmentFault, ExitCode
from lmi_compile.serving.limits import Limits
from lmi_compile.settings import Settings

if TYPE_CHECKING:
    from lmi_compile.serving.process import Model

_DEFAULT = Limits()


@click.command()
@click.argument("artifact", metavar="REF|DIR")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True,
    help="Port; 0 takes a free one.",
)  # fmt: skip
@click.option(
    "--queue", type=click.IntRange(0), default=_DEFAULT.queue, show_default=True,
    help="Requests that may wait; further ones are answered 503 at once.",
)  # fmt: skip
@click.option(
    "--request-seconds", type=click.FloatRange(min=0.1), default=_DEFAULT.seconds,
    show_default=True, help="An answer may take so long, waiting included.",
)  # fmt: skip
@click.option(
    "--patience-seconds", type=click.FloatRange(min=0.1), default=_DEFAULT.patience,
    show_default=True, help="A client may take so long to send its request.",
)  # fmt: skip
@click.option(
    "--drain-seconds", type=click.FloatRange(min=0), default=_DEFAULT.drain, show_default=True,
    help="After SIGTERM, running requests have so long to end.",
)  # fmt: skip
@click.option(
    "--loading-seconds", type=click.FloatRange(min=1), default=_DEFAULT.loading,
    show_default=True, help="The model may take so long to load.",
)  # fmt: skip
@click.option(
    "--max-body-bytes", type=click.IntRange(1), default=_DEFAULT.body_bytes, show_default=True,
    help="Larger requests are answered 413.",
)  # fmt: skip
@settings_options
@voice_options
def serve(
    artifact: str,
    *,
    host: str,
    port: int,
    queue: int,
    request_seconds: float,
    patience_seconds: float,
    drain_seconds: float,
    loading_seconds: float,
    max_body_bytes: int,
    settings: Settings,
    console: Console,
) -> int:
    """Serve an aoti artifact over HTTP, every byte verified, until SIGTERM.

    Paths: /ping, /invocations, /v1/chat/completions, /v1/completions, /v1/models, /metrics,
    TGI's /generate, and SageMaker's /endpoints/NAME/invocations. Once the model is loaded the
    address is printed on stdout. OMP_NUM_THREADS sets the model's threads.
    """
    try:
        from lmi_compile.serving import server  # noqa: PLC0415 - its libraries are an extra
    except ModuleNotFoundError as error:
        what = f"{error.name} is not installed"
        raise EnvironmentFault(what, "", "pip install 'lmi-compile[serve]'") from error
    listener = server.listen(host, port)
    url = f"http://{host}:{listener.getsockname()[1]}"
    tree, manifest = checked_tree(registry_of(settings), artifact, settings.cache_dir, console)
    console.line(f"{manifest.name}: {len(manifest.files)} files, every byte as the manifest says")
    console.line(f"{manifest.name}: loading")

    def ready(model: "Model") -> None:
        console.line(
            f"{model.name}: {model.max_batch_size} at a time, {model.takes}, "
            f"threads: {model.threads}"
        )
        if console.as_json:
            console.json({"url": url, "artifact": f"{manifest.name}@{manifest.digest}"})
        else:
            console.data(url)

    limits = Limits(
        queue=queue,
        seconds=request_seconds,
        body_bytes=max_body_bytes,
        patience=patience_seconds,
        drain=drain_seconds,
        loading=loading_seconds,
    )
    with listener:
        server.serve(tree, listener, limits, on_line=console.line, on_ready=ready)
    console.line("drained")
    return ExitCode.OK
