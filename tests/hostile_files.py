"""Hostile files, names of programs and public formats; see `hostile`."""

import gzip
import io
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from hostile import (
    RNG,
    Case,
    arguments,
    case,
    kinds_of_labels,
    labels,
    look_alike_labels,
    numbers,
    other_tables,
    outcomes,
    scales,
)

from prefdensity import read
from prefdensity.data.comparisons import Comparisons
from prefdensity.programs.loading import load_program


def _csv(text: str | bytes, name: str = "votes.csv") -> tuple[str, bytes]:
    return name, text.encode() if isinstance(text, str) else text


def files() -> list[Case]:
    """Files that are damaged, deep, huge, coded otherwise, or shaped like something else."""
    head, line = "item_a,item_b,outcome\n", "elm,fir,a\noak,elm,b\n"
    meant = [("elm", "fir", "a", None, 1.0), ("oak", "elm", "b", None, 1.0)]
    row = '{"item_a": "elm", "item_b": "fir", "outcome": "a"}'
    one = [("elm", "fir", "a", None, 1.0)]
    parquet = io.BytesIO()
    pd.DataFrame({"item_a": ["elm"], "item_b": ["fir"], "outcome": ["a"]}).to_parquet(parquet)
    whole = parquet.getvalue()
    given: dict[str, tuple[tuple[str, bytes], Any]] = {
        "crlf": (_csv((head + line).replace("\n", "\r\n")), meant), "cr": (_csv((head + line).replace("\n",
        "\r")), meant),
        "bom": (_csv("\ufeff" + head + line), meant), "blank lines": (_csv(head + "\n\n" + line + "\n"), meant),
        "no last newline": (_csv((head + line).rstrip()), meant),
        "quoted": (_csv(head + '"elm","fir",a\noak,elm,"b"'), meant),
        "tsv": (_csv((head + line).replace(",", "\t"), "votes.tsv"), meant),
        "gz": (_csv(gzip.compress((head + line).encode()), "votes.csv.gz"), meant),
        "utf-16": (_csv((head + line).encode("utf-16")), meant),
        "utf-32": (_csv((head + line).encode("utf-32")), meant),
        "latin-1": (_csv((head + "élm,fir,a\n").encode("latin-1")), "cannot be read as UTF-8"),
        "surrogate bytes": (_csv(head.encode() + b"\xed\xa0\x80,fir,a\n"), "cannot be read as UTF-8"),
        "overlong": (_csv(head.encode() + b"\xc0\xaf,fir,a\n"), "cannot be read as UTF-8"),
        "nul in a label": (_csv(head + "e\0lm,fir,a\n"), "row 1 of column 'item_a' holds the control character"),
        "nul in the header": (_csv("item_a,item_b,outcome\0\nelm,fir,a\n"), "no column 'outcome'"),
        "only nul": (_csv(b"\0" * 400), "has no rows"),
        "binary": (_csv(bytes(RNG.integers(0, 256, 900, dtype=np.uint8))), "cannot be read|no column|holds"),
        "open quote": (_csv(head + '"elm,fir,a\noak,elm,b\n'), "cannot be read|is empty"),
        "semicolons": (_csv((head + line).replace(",", ";")), meant),
        "ragged": (_csv(head + "elm,fir,a,b\n"), "more fields than the header"),
        "ragged later": (_csv(head + line + "elm,fir,a,b\n"), "cannot be read .* line 4"),
        "short": (_csv(head + line + "elm\n"), "is empty in 1 rows, first in row 3"),
        "header only": (_csv(head), "has no rows"), "nothing": (_csv(b""), "0 bytes"), "blanks": (_csv("\n \n"), "no "),
        "twice": (_csv("item_a,item_b,item_b,outcome\nx,y,z,a\n"), "more than one column called 'item_b'"),
        "unnamed": (_csv(",item_b,outcome\nx,y,a\n"), "no column 'item_a'"),
        "no header": (_csv(line), "no column 'item_a'"), "html": (_csv("<html><body>404</body></html>"),
        "no column|no rows"),
        "ansi header": (_csv("item_\x1b[2Ja,item_b,outcome\nx,y,a\n"), "no column 'item_a'"),
        "wide": (_csv(",".join(f"c{k}" for k in range(5000)) + "\n" + "," * 4999 + "\n"), "5000 in all"),
        "short gz": (_csv(gzip.compress((head + line * 50).encode())[:-9], "votes.csv.gz"), "cannot be read"),
        "no gz": (_csv(head + line, "votes.csv.gz"), "cannot be read"),
        "deep list": (_csv("[" * 100_000, "votes.json"), "nested too deeply"),
        "deep object": (_csv('{"item_a":' * 100_000, "votes.jsonl"), "nested too deeply"),
        "digits": (_csv(row.replace('"elm"', "9" * 5000), "votes.jsonl"), "line 1 cannot be read: Exceeds the limit"),
        "long id": (_csv(row.replace('"elm"', str(2**70)), "votes.jsonl"), [(str(2**70), "fir", "a", None, 1.0)]),
        "lone surrogate": (_csv(row.replace("elm", "\\ud800"), "votes.jsonl"), "row 1 .* holds half a character"),
        "surrogate pair": (_csv(row.replace("elm", "\\ud83d\\ude80"), "votes.jsonl"), [("🚀", "fir", "a", None, 1.0)]),
        "json nul": (_csv(row.replace("elm", "e\\u0000"), "votes.jsonl"), "holds the control character"),
        "named twice": (_csv(row.replace("item_b", "item_a"), "votes.jsonl"), "names 'item_a' more than once"),
        "bom jsonl": (_csv("\ufeff" + row, "votes.jsonl"), one), "line separator": (
            _csv(row.replace("elm", "e\u2028m"), "votes.jsonl"), [("e\u2028m", "fir", "a", None, 1.0)]),
        "not a number": (_csv(row.replace('"elm"', "NaN"), "votes.jsonl"), "'item_a' .* is empty"),
        "null": (_csv("null", "votes.json"), "row 1 is not an object"), "scalar": (_csv("3", "votes.json"),
        "not an object"),
        "empty list": (_csv("[]", "votes.json"), "has no rows"), "empty object": (_csv("{}", "votes.jsonl"),
        "no column"),
        "list of lists": (_csv('[["elm", "fir", "a"]]', "votes.json"), "is not an object"),
        "wrapped": (_csv('{\n"data": [' + row + "]\n}", "votes.json"), one),
        "pretty": (_csv("[\n" + row.replace(", ", ",\n") + "\n]", "votes.json"), one),
        "comma": (_csv(row + ",", "votes.jsonl"), "line 1 is not valid JSON"), "cut": (_csv(row[:-5], "votes.jsonl"),
        "line 1"),
        "single quotes": (_csv(row.replace('"', "'"), "votes.jsonl"), "not valid JSON"),
        "nested label": (_csv(row.replace('"elm"', '{"id": 1}'), "votes.jsonl"), "holds a dict in row 1"),
        "half a name": (_csv(row.replace("{", '{"\\ud800": 1, '), "votes.jsonl"), "cannot be read as a table"),
        "count of digits": (_csv(row[:-1] + ', "count": ' + "9" * 400 + "}", "votes.jsonl"),
        "'count' must hold finite"),
        "parquet cut": (_csv(whole[:-20], "votes.parquet"), "cannot be read as parquet"),
        "parquet head": (_csv(whole[:8], "votes.parquet"), "cannot be read as parquet"),
        "parquet is csv": (_csv(head + line, "votes.parquet"), "cannot be read as parquet"),
        "csv is parquet": (_csv(whole), "cannot be read as UTF-8|no column"),
        "no ending": (_csv(head, "votes"), "must end in"), "excel": (_csv("PK", "votes.xlsx"), "must end in"),
    }  # fmt: skip
    cases = []
    for name, ((file, content), right) in given.items():

        def run(folder: Any, file: str = file, content: bytes = content) -> Comparisons:
            (folder / file).write_bytes(content)
            return read(folder / file)

        cases.append(case(f"file {name}", run, right, shell=("describe", f"{{folder}}/{file}")))
    for k in range(12):  # damage at random: whatever comes back, it comes in a sentence
        spot = int(RNG.integers(4, len(whole) - 4))
        damaged = whole[:spot] + bytes([whole[spot] ^ 0xFF]) + whole[spot + 1 :]
        refused = "cannot be read as parquet|no column|holds|unknown outcomes|is empty"

        def bitten(folder: Any, content: bytes = damaged) -> Comparisons:
            (folder / "votes.parquet").write_bytes(content)
            return read(folder / "votes.parquet")

        shell = ("describe", "{folder}/votes.parquet")
        cases.append(Case(f"file bitten parquet {k}", bitten, refused, one, shell=shell))
    return cases


def programs() -> list[Case]:
    """Names of programs: no file runs, no name ends in a traceback."""
    names = {
        "20,000 terms": "+".join(["davidson"] * 20_000), "brackets": "(" * 5000, "calls": "davidson(" * 3000,
        "nul": "a\0b",
        "nothing": "", "blank": "  ", "plus": "+", "open": "davidson+", "half": "\ud800",
        "digits": "utility_scale(fixed=" + "9" * 5000 + ")",
        "k=-1": "annotator_types(k=-1)", "k=0": "annotator_types(k=0)", "k text": "annotator_types(k='2')",
        "k none": "annotator_types(k=None)", "k fraction": "annotator_types(k=2.5)", "k list": "annotator_types(k=[2])",
        "k true": "annotator_types(k=True)", "k huge": "annotator_types(k=1000000000)",
        "k twice": "annotator_types(k=2, k=3)",
        "k formula": "annotator_types(k=2**9)", "k by place and name": "annotator_types(2, k=3)",
        "k unknown": "annotator_types(q=2)",
        "scale 0": "utility_scale(fixed=0)", "scale -1": "utility_scale(fixed=-1)",
        "scale inf": "utility_scale(fixed=1e999)",
        "scale text": "utility_scale(fixed='wide')", "unhashable": "utility_scale(fixed={[]: 1})",
        "stars": "annotator_types(**{})",
        "dunder": "__init__", "module": "os", "attribute": "os.system", "statement": "davidson;import os",
        "lambda": "lambda: 1",
        "call": "__import__('os')", "long": "x" * 100_000, "umlaut": "dävidson", "backslash": "davidson\\",
        "quoted": "'davidson'",
        "number": "davidson+1", "index": "davidson[0]", "condition": "davidson if 1 else 2", "no file": "nothing.py",
        "nul file": "a\0.py", "path": "/etc/passwd", "dots": "..", "minus": "davidson-reliability",
        "negative": "-davidson",
        "twice": "davidson+reliability+reliability", "walrus": "(x := 1)", "await": "await x", "star": "*davidson",
        "null": None,
    }  # fmt: skip
    return [
        case(f"program {what}", lambda _, n=name: load_program(n), ".", shell=("models", name) if what in (
            "20,000 terms", "k=-1", "dunder", "module", "long", "call", "brackets") else None)
        for what, name in names.items()
    ]  # fmt: skip


def formats() -> list[Case]:
    """Public formats with cells that the format does not have."""
    chosen = pd.DataFrame({"prompt": ["p", "q"], "chosen": ["yes", "ay"], "rejected": ["no", "nay"],
                           "score_chosen": [8.0, 7.0], "score_rejected": [8.0, 5.0]})  # fmt: skip
    arena = pd.DataFrame({"model_a": ["x", "y"], "model_b": ["y", "z"], "winner": ["model_a", "tie"]}, dtype=object)
    scored = partial(read, format="chosen_rejected")
    bench = arena.assign(question_id=[1, None], judge="kim", turn=1)

    def kinds(data: Comparisons) -> list[str]:
        return [("a", "b", "tie")[k] for k in data.outcome]

    cases = [
        case("equal scores", lambda _: scored(chosen), "1 rows have the same score .* first row 1"),
        case("equal scores are ties", lambda _: kinds(scored(chosen, equal_scores="tie")), ["tie",
        "a"]),
        case("equal scores win", lambda _: kinds(scored(chosen, equal_scores="win")), ["a", "a"]),
        case("equal scores dropped", lambda _: kinds(scored(chosen, equal_scores="drop")), ["a"]),
        case("equal scores, unknown", lambda _: scored(chosen, equal_scores="b"), "'b' is unknown"),
        case("a question without a number", lambda _: read(bench, format="mt_bench"),
        r"\(context\) is empty in 1 rows"),
        case("half a character in a text", lambda _: kinds(scored(
            chosen.assign(score_chosen=9, chosen=pd.Series(["cut \ud83d", "ay"], dtype=object)))),
            ["a", "a"]),
        case("a bell in a text", lambda _: kinds(scored(
            chosen.assign(score_chosen=9, chosen=["ring \x07", "ay"]))), ["a", "a"]),
    ]  # fmt: skip
    for name, value in {"none": None, "blank": " ", "nul": "\0", "bytes": b"x", "list": ["x"], "complex": 1j}.items():
        for column, good in (("model_b", "y"), ("winner", "tie")):
            frame = arena.assign(**{column: pd.Series([good, value], dtype=object)})
            cases.append(case(f"arena {column} {name}", lambda _, f=frame: read(f, format="arena"), f"'{column}'"))
    return cases


def all_cases() -> list[Case]:
    """Every case, in a fixed order: they draw from one generator."""
    tables = (labels, kinds_of_labels, look_alike_labels, numbers, other_tables, outcomes, scales, arguments)
    return [case for part in (*tables, files, programs, formats) for case in part()]
