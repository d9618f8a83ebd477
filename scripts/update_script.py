#!/usr/bin/env python3
"""Prints the update script between two versions of the extension: sql/btc_ingest--OLD--NEW.sql.

usage: update_script.py OLD.sql NEW.sql

Both are install scripts as `cargo pgrx package` leaves them in share/postgresql/15/extension. Printed are the
statements of NEW that OLD does not have, after what makes room for them: a routine that is gone, or whose arguments
or result changed, is dropped, and so are the views over it, which NEW makes again. migrate() changes the tables.
What needs a decision, such as a changed type, is refused: write that statement by hand.
"""

import re
import sys

TOKEN = re.compile(
    r"""--[^\n]*\n?|/\*.*?\*/|'(?:[^']|'')*'|"(?:[^"]|"")*"|(?P<dollar>\$\w*\$).*?(?P=dollar)|;|[^-/'"$;]+|.""", re.S
)
ROUTINE = re.compile(r"CREATE (FUNCTION|PROCEDURE) ([\w.]+)\s*\(", re.I)
VIEW = re.compile(r"CREATE VIEW ([\w.]+)", re.I)
# What stands outside of the objects, and may run again.
REPEATED = re.compile(r"(COMMENT|GRANT|REVOKE|SELECT)\b", re.I)
ALL_OBJECTS = re.compile(r"\bON ALL \w+ IN SCHEMA\b", re.I)
LAST = ["SELECT btc_ingest_internal.fix_settings();", "SELECT btc_ingest.migrate();",
        "SELECT btc_ingest_internal.wake_workers();"]


def statements(text):
    """Splits a script into its statements, without the comments between and inside them."""
    found, current = [], ""
    for match in TOKEN.finditer(text):
        token = match.group()
        if token.startswith(("--", "/*")):
            current += "\n" if token.startswith("--") else ""
        elif token == ";":
            found.append(current.strip() + ";")
            current = ""
        elif token.startswith(("'", '"', "$")):
            current += token
        else:
            # Where a comment stood, no empty line is left.
            current = current[:-1] + re.sub(r"\n\s*\n", "\n", current[-1:] + token)
    if current.strip():
        sys.exit(f"the script ends within a statement: {current.strip()[:80]}")
    return found


def split_arguments(text):
    """Returns the arguments that begin behind an opening parenthesis, and what follows its closing one."""
    depth, current, arguments = 1, "", []
    for match in TOKEN.finditer(text):
        token = match.group()
        pieces = re.findall(r"[(),]|[^(),]+", token) if not token.startswith(("'", '"', "$")) else [token]
        for place, piece in enumerate(pieces):
            depth += (piece == "(") - (piece == ")")
            if depth == 0:
                arguments.append(current.strip())
                rest = "".join(pieces[place + 1:]) + text[match.end():]
                return [argument for argument in arguments if argument], rest
            if piece == "," and depth == 1:
                arguments.append(current.strip())
                current = ""
            else:
                current += piece
    sys.exit(f"no end of the arguments in: {text[:80]}")


class Routine:
    """A function or procedure: what CREATE OR REPLACE cannot change is its `identity` and its `result`."""

    def __init__(self, statement):
        head = ROUTINE.match(statement)
        self.statement, self.kind, self.name = statement, head[1].upper(), head[2]
        arguments, rest = split_arguments(statement[head.end():])
        bare = [re.sub(r"\s+(DEFAULT\b|=).*", "", argument, flags=re.S | re.I) for argument in arguments]
        self.signature = f"{self.name}({', '.join(' '.join(argument.split()) for argument in bare)})"
        result = re.match(r"\s*RETURNS\s+(.*?)\s+LANGUAGE\b", rest, re.S | re.I)
        self.fixed = (self.kind, self.signature, " ".join(result[1].split()) if result else "")
        self.defaults = len(arguments) - sum(argument == kept for argument, kept in zip(arguments, bare))


def names(statement, name):
    return re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", statement) is not None


def update(old, new):
    """Returns the statements that make OLD's objects NEW's."""
    routines_before = {r.signature: r for r in map(Routine, filter(ROUTINE.match, old))}
    routines = {r.signature: r for r in map(Routine, filter(ROUTINE.match, new))}
    views_before = {VIEW.match(s)[1]: s for s in old if VIEW.match(s)}
    views = {VIEW.match(s)[1]: s for s in new if VIEW.match(s)}

    def stays(before):
        after = routines.get(before.signature)
        # A default may be added by CREATE OR REPLACE, and not be taken away.
        return after is not None and after.fixed == before.fixed and after.defaults >= before.defaults

    dropped = [r for r in routines_before.values() if not stays(r)]
    moved = {name for name, statement in views_before.items()
             if views.get(name) != statement or any(names(statement, r.name) for r in dropped)}
    made_again = {r.name for r in dropped} | moved
    lines = [f"DROP VIEW {name};" for name in reversed(views_before) if name in moved]
    lines += [f"DROP {r.kind} {r.signature};" for r in dropped]
    known = set(old)
    for statement in new:
        routine, view = ROUTINE.match(statement), VIEW.match(statement)
        if statement in LAST:
            continue
        again = any(names(statement, name) for name in made_again)
        if routine and Routine(statement).signature in {r.signature for r in routines_before.values() if stays(r)}:
            if statement not in known:
                lines.append("CREATE OR REPLACE" + statement[len("CREATE"):])
        elif view and view[1] in views_before and view[1] not in moved:
            continue
        elif routine or view:
            lines.append(statement)
        elif REPEATED.match(statement):
            if statement not in known or again or ALL_OBJECTS.search(statement):
                lines.append(statement)
        elif statement not in known:
            sys.exit(f"this change must be written by hand: {statement[:200]}")
    return lines + LAST


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    old, new = (statements(open(path, encoding="utf-8").read()) for path in sys.argv[1:])
    print("-- Printed by scripts/update_script.py. A script that was released is never edited.")
    print('\\echo Use "ALTER EXTENSION btc_ingest UPDATE" to run this file. \\quit')
    print("\n\n".join(update(old, new)))


if __name__ == "__main__":
    main()
