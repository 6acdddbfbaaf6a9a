"""Models behind HTTP."""

from typing import Annotated

import typer

from bertsmith.commands.shared import PrecisionName, precision_of, say


def serve(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...", help="Directories that `load` opens, or NAME=DIRECTORY; adapters of these models, too."
        ),
    ],
    port: Annotated[int, typer.Option(help="Where to listen; 0 takes a free one.")] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is all of them.")] = "127.0.0.1",
    api_key: Annotated[
        str, typer.Option(envvar="BERTSMITH_API_KEY", help="Ask every request for this key.", show_default=False)
    ] = "",
    precision: PrecisionName = "default",
    batch_tokens: Annotated[int, typer.Option(min=1, help="Tokens that a model reads at a time.")] = 4096,
    queue_tokens: Annotated[int, typer.Option(min=1, help="Tokens that may wait; beyond, requests get 429.")] = 1 << 18,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds that a request may take.")] = 60.0,
) -> None:
    """Answer over HTTP: OpenAI's embeddings, text-embeddings-inference's paths, Hugging Face's tasks; and a page at /."""
    how = precision_of(precision)
    try:
        from bertsmith import serve as server
    except ImportError as error:
        raise ImportError(f"{error.name} is not installed: pip install 'bertsmith[serve]'") from None
    if host not in ("127.0.0.1", "localhost", "::1") and not api_key:
        say(f"anybody who reaches {host} may ask: --api-key, or BERTSMITH_API_KEY, asks them for a key")
    opened = server.open_all(models)
    limits = server.Limits(batch=batch_tokens, waiting=queue_tokens, seconds=timeout)
    server.serve(opened, host, port, api_key, how, limits)
