"""What is known of the languages that the official template repositories have: a build of another one fails."""

from __future__ import annotations

from faasflow.local.stack import FunctionSpec, Stack

OFFICIAL = "github.com/openfaas/templates"
FLASK = "github.com/openfaas/python-flask-template"

_NO_LONGER = frozenset({"python", "python3", "python3-debian"})
_FLASK_HAS = frozenset(
    {"python3-http", "python3-http-debian", "python3-flask", "python3-flask-debian", "python27-flask"}
)


def missing_template(spec: FunctionSpec, stack: Stack) -> str:
    """Why `faas-cli build` will not find the template of a function, with the way out; empty if nothing is known
    against it. A folder `template/LANG` beside the stack file is a template as well."""
    name = spec.lang.partition("@")[0]
    if stack.path is not None and (stack.path.parent / "template" / name).is_dir():
        return ""
    source = stack.templates.get(spec.lang) or stack.templates.get(name) or f"https://{OFFICIAL}"
    if _is(source, OFFICIAL) and name in _NO_LONGER:
        return (
            f"the template {name} was removed from https://{OFFICIAL} in January 2025, so `faas-cli build` does not "
            "find it. Use python3-http, whose handler is handle(event, context)."
        )
    if _is(source, FLASK) and name not in _FLASK_HAS:
        return f"there is no template {name} in {source}, so `faas-cli build` does not find it. Use python3-http."
    return ""


def _is(source: str, repository: str) -> bool:
    plain = source.partition("#")[0].rstrip("/").removesuffix(".git")
    return plain.lower().endswith(repository)
