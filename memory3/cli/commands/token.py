"""``memory3 token``: make tokens and look at files of them. No token is ever stored."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from memory3.cli.examples import examples
from memory3.cli.options import Output, OutputOption

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_help_panel="Services",
    help="Make bearer tokens, and look at the files that services accept them from.",
    epilog=examples(
        "memory3 token create acme-app --role writer --bank acme >> tokens.toml",
        "memory3 token check tokens.toml",
    ),
)

_File = Annotated[Path, typer.Argument(metavar="FILE", help="The file of tokens, TOML.")]


@app.command(
    epilog=examples("memory3 token create acme-app --role reader --bank acme --bank 'team-*'")
)
def create(
    name: Annotated[str, typer.Argument(metavar="ID", help="Whose it is; shown in logs.")],
    role: Annotated[str, typer.Option(help="reader, writer or admin.")] = "reader",
    bank: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="A bank, or a pattern with *.")
    ] = None,
    expires: Annotated[
        datetime | None, typer.Option(help="From when on it is refused, in UTC.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a token: it is shown once, with the lines for the file of tokens."""
    import json

    from memory3.cli.output import print_json
    from memory3.rpc.security.tokens import digest_of, new_token, parse_tokens

    token = new_token()
    lines = ["[[tokens]]", f"id = {json.dumps(name)}", f'sha256 = "{digest_of(token).hex()}"']
    if expires is not None:
        lines.append(f"expires = {expires:%Y-%m-%dT%H:%M:%S}Z")
    lines.append(f"roles = [{{ role = {json.dumps(role)}, banks = {json.dumps(bank or [])} }}]")
    entry = "\n".join(lines) + "\n"
    parse_tokens(entry.encode())
    if output is Output.JSON:
        print_json({"token": token, "entry": entry})
        return
    print(f"# The token, shown this once: {token}", file=sys.stderr)
    print(entry, end="")


@app.command("hash", epilog=examples("memory3 token hash < token.txt"))
def hash_token(output: OutputOption = Output.TABLE) -> None:
    """Read a token from standard input and write the hash for the file of tokens."""
    from memory3.cli.output import emit
    from memory3.errors import InvalidArgumentError
    from memory3.rpc.security.tokens import digest_of

    token = sys.stdin.read().strip()
    if not token:
        raise InvalidArgumentError("standard input holds no token", field="token")
    found = {"sha256": digest_of(token).hex()}
    emit(output, found, found)


@app.command("list", epilog=examples("memory3 token list tokens.toml"))
def list_tokens(file: _File, output: OutputOption = Output.TABLE) -> None:
    """List the tokens of a file: ids, roles, when they expire."""
    from memory3.cli.output import print_json, print_table
    from memory3.rpc.security.token_file import TokenFile

    rows = [
        {
            "id": token.identity.name,
            "roles": " ".join(
                f"{grant.role.name.lower()}:{','.join(grant.banks)}"
                for grant in token.identity.grants
            ),
            "expires": token.expires,
        }
        for token in TokenFile(file).tokens().all
    ]
    if output is Output.JSON:
        print_json(rows)
    else:
        print_table(["id", "roles", "expires"], ([*row.values()] for row in rows))


@app.command(epilog=examples("memory3 token check tokens.toml"))
def check(file: _File, output: OutputOption = Output.TABLE) -> None:
    """Check a file of tokens before services read it; exit 1 where they would refuse it."""
    from memory3.cli.output import emit
    from memory3.rpc.security.token_file import TokenFile

    found = {"tokens": len(TokenFile(file).tokens().all)}
    emit(output, found, found)
