"""Which labels the series of a PromQL expression carry, worked out from the families that are served.

An expression that names a family which is not served, or a label that the series at that place do not carry, is
refused: Prometheus would answer it with nothing, or with too much, and never print_error.
"""

from __future__ import annotations

from collections.abc import Mapping

import promql_parser as promql

Labels = frozenset[str]


def labels(expr: str, families: Mapping[str, Labels]) -> Labels:
    """The labels of an expression's series; `families` maps each series name to its labels, the target's included."""
    return _of(promql.parse(expr), families)


def _need(named: object, there: Labels, where: object) -> None:
    missing = set(named or ()) - there  # type: ignore[call-overload]
    if missing:
        raise LookupError(f"{', '.join(sorted(missing))} not among {', '.join(sorted(there))} in {where}")


def _of(node: promql.Expr, families: Mapping[str, Labels]) -> Labels:
    if isinstance(node, promql.VectorSelector):
        if node.name is None or node.name not in families:
            raise LookupError(f"{node.name} is not served")
        _need([m.name for m in node.matchers.matchers], families[node.name], node)
        return families[node.name]
    if isinstance(node, promql.MatrixSelector):
        return _of(node.vector_selector, families)
    if isinstance(node, promql.ParenExpr | promql.UnaryExpr | promql.SubqueryExpr):
        return _of(node.expr, families)
    if isinstance(node, promql.NumberLiteral | promql.StringLiteral):
        return frozenset()
    if isinstance(node, promql.AggregateExpr):
        return _aggregate(node, families)
    if isinstance(node, promql.BinaryExpr):
        return _binary(node, families)
    if isinstance(node, promql.Call):
        return _call(node, families)
    raise NotImplementedError(type(node))


def _aggregate(node: promql.AggregateExpr, families: Mapping[str, Labels]) -> Labels:
    inner = _of(node.expr, families)
    by: Labels = frozenset()
    if node.modifier is not None:
        by = frozenset(node.modifier.labels)
        if node.modifier.type == promql.AggModifierType.By:
            _need(by, inner, node)
        else:
            by = inner - by
    operation = str(node.op)
    if operation in ("topk", "bottomk"):
        return inner
    if operation == "count_values":
        assert isinstance(node.param, promql.StringLiteral)
        return by | {node.param.val}
    return by


def _binary(node: promql.BinaryExpr, families: Mapping[str, Labels]) -> Labels:
    left, right = _of(node.lhs, families), _of(node.rhs, families)
    modifier, operation = node.modifier, str(node.op)
    on = None
    if modifier is not None and modifier.matching is not None:
        assert modifier.matching.type == promql.LabelModifierType.Include, f"ignoring() is not tried here: {node}"
        on = frozenset(modifier.matching.labels)
        _need(on, left, node)
        _need(on, right, node)
    if operation in ("and", "unless"):
        if on is None:
            assert left == right, f"{sorted(left)} meets {sorted(right)} without on () in {node}"
        return left
    if operation == "or":
        if on is None:
            assert left == right, f"{sorted(left)} or {sorted(right)} in {node}"
        return left | right
    if not left or not right:
        return left | right
    if modifier is not None and modifier.group_labels is not None:
        assert modifier.card == promql.VectorMatchCardinality.ManyToOne, f"group_right() is not tried here: {node}"
        _need(modifier.group_labels, right, node)
        return left | frozenset(modifier.group_labels)
    if on is None:
        assert left == right, f"{sorted(left)} meets {sorted(right)} without on () in {node}"
        return left
    return on


def _call(node: promql.Call, families: Mapping[str, Labels]) -> Labels:
    name = node.func.name
    strings = [arg.val for arg in node.args if isinstance(arg, promql.StringLiteral)]
    found: Labels = frozenset()
    for arg in node.args:
        found |= _of(arg, families)
    if name == "label_replace":
        _need([strings[2]] if strings[2] else [], found, node)
        return found | {strings[0]}
    if name == "label_join":
        _need(strings[2:], found, node)
        return found | {strings[0]}
    if name == "histogram_quantile":
        _need(["le"], found, node)
        return found - {"le"}
    return found
