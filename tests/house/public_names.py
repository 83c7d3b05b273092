"""Lists the names that the headers declare in namespace tessera itself, and compares them with docs/reference.md.

usage: public_names.py ROOT [--list]

Namespaces within it (tessera::engine, tessera::comm, ...) are not public. Every public name must be in
docs/reference.md, in a row `name` | `header` | description, and no row may have an unknown name. --list prints the
names and headers and checks nothing.
"""

import re
import sys
from pathlib import Path

TOKEN = re.compile(r"//[^\n]*|/\*.*?\*/|R\"\((.*?)\)\"|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])+'|^\s*#(?:[^\n\\]|\\.|\\\n)*",
                   re.DOTALL | re.MULTILINE)
ROW = re.compile(r"^\| `([A-Za-z_]\w*)` \| `<(tessera/[\w/.]+)>` \| \S.* \|$")


def plain(text):
    """The text without comments, literals and preprocessor lines."""
    return TOKEN.sub(" ", text)


def statements(text):
    """(namespace, statement) of everything that a header declares in a namespace."""
    stack, start, i, depth, parentheses = [], 0, 0, 0, 0
    while i < len(text):
        c = text[i]
        if c in "()":
            parentheses += 1 if c == "(" else -1
        if parentheses:
            pass
        elif depth == 0 and c == "{":
            head = text[start:i].strip()
            match = re.fullmatch(r"(?:inline\s+)?namespace\s*([\w:]*)", head)
            if match:
                stack.append(match.group(1))
                start = i + 1
            else:
                depth = 1
        elif c == "{":
            depth += 1
        elif c == "}" and depth == 0:
            if stack:
                stack.pop()
            start = i + 1
        elif c == "}":
            depth -= 1
            if depth == 0:
                rest = text[i + 1:].lstrip()
                head = text[start:i + 1]
                ends = not rest.startswith((";", ",", "{", "(")) and not re.match(r"\s*(concept|using)\b", without_template(head))
                if ends and not re.search(r"=\s*[^{}]*\{", skeleton(head)) and not is_class(head):
                    yield "::".join(stack), head.strip()
                    start = i + 1
        elif c == ";" and depth == 0:
            yield "::".join(stack), text[start:i].strip()
            start = i + 1
        i += 1


def skeleton(statement):
    """The statement without the content of parentheses and braces."""
    out, depth = [], 0
    for c in statement:
        if c in "({":
            depth += 1
            out.append(c)
        elif c in ")}":
            depth -= 1
            out.append(c)
        elif depth == 0:
            out.append(c)
    return "".join(out)


def without_template(statement):
    """The statement without its template head and the requires clauses before the declaration."""
    statement = statement.strip()
    while statement.startswith("template"):
        i = statement.index("<")
        depth = parentheses = 0
        while True:
            if statement[i] in "()":
                parentheses += 1 if statement[i] == "(" else -1
            elif parentheses:
                pass
            elif statement[i] == "<":
                depth += 1
            elif statement[i] == ">" and statement[i - 1] != "-":
                depth -= 1
                if depth == 0:
                    break
            i += 1
        statement = statement[i + 1:].strip()
    return statement


def is_class(statement):
    return re.match(r"(?:class|struct|union|enum)\b", without_template(statement)) is not None


KEYWORDS = {"requires", "noexcept", "decltype", "alignas", "operator", "if", "sizeof", "static_assert"}


def name_of(statement):
    """The name that a statement declares, or nothing for a specialization, operator, friend or static_assert."""
    text = without_template(statement)
    if not text or text.startswith(("static_assert", "using namespace", "extern template", "_Pragma")):
        return None
    if match := re.match(r"(?:concept|using)\s+(\w+)\s*=", text):
        return match.group(1)
    if match := re.match(r"using\s+(?:[\w:]+::)(\w+)$", text):
        return match.group(1)
    if match := re.match(r"(?:class|struct|union|enum(?:\s+class)?)\s+(?:alignas\([^)]*\)\s*|TESSERA_\w+(?:\([^)]*\))?\s+)*(\w+)\s*(<)?", text):
        return None if match.group(2) else match.group(1)
    text = re.sub(r"\b(?:decltype|requires|alignas|__attribute__)\s*\((?:[^()]|\([^()]*\))*\)", " ", text)
    if re.search(r"\boperator\b", skeleton(text)):
        return None
    head = re.split(r"[({=]", text)[0]
    if "(" in text and text.index("(") < (text.index("=") if "=" in text else len(text)):
        head = text[:text.index("(")]
    names = re.findall(r"(~?[\w:]+)\s*(?:<[^<>]*>)?\s*$", head.strip())
    if not names or "::" in names[0] or names[0] in KEYWORDS or names[0].startswith("TESSERA_"):
        return None
    return names[0]


def public_names(root):
    """{name: [headers]} of namespace tessera itself."""
    base = Path(root) / "include"
    found = {}
    for path in sorted(base.rglob("*")):
        if path.suffix not in (".hpp", ".cuh"):
            continue
        header = path.relative_to(base).as_posix()
        for namespace, statement in statements(plain(path.read_text(encoding="utf-8"))):
            if namespace == "tessera" and (name := name_of(statement)):
                if header not in found.setdefault(name, []):
                    found[name].append(header)
    return found


def main(root, listing):
    found = public_names(root)
    if listing:
        for name, headers in sorted(found.items()):
            print(name, *headers)
        return 0
    page = Path(root) / "docs" / "reference.md"
    rows = {}
    wrong = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if match := ROW.match(line):
            name, header = match.groups()
            if name in rows:
                wrong.append(f"docs/reference.md:{number}: `{name}` stands twice")
            rows[name] = header
            if name not in found:
                wrong.append(f"docs/reference.md:{number}: no header declares `{name}` in namespace tessera")
            elif header not in found[name]:
                wrong.append(f"docs/reference.md:{number}: `{name}` is declared in <{found[name][0]}>")
    wrong += [f"docs/reference.md: `{name}` of <{headers[0]}> is missing: add a row, or move it into its room's namespace"
              for name, headers in sorted(found.items()) if name not in rows]
    for what in wrong:
        print(what)
    print(f"{len(found)} public names, {len(wrong)} breaches")
    return 1 if wrong or not found else 0


if __name__ == "__main__":
    arguments = [a for a in sys.argv[1:] if a != "--list"]
    if len(arguments) != 1:
        sys.exit(__doc__)
    sys.exit(main(arguments[0], "--list" in sys.argv))
