"""Verdicts as JUnit XML, which CI services show: a test case for each trace, thread and bound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from xml.etree import ElementTree as Xml

from gilscope.safe_text import escaped

if TYPE_CHECKING:
    from gilscope.analysis.bounds import Verdict


def junit(verdicts: Sequence[Verdict]) -> bytes:
    """The document."""
    broken = sum(verdict.why is not None for verdict in verdicts)
    suite = Xml.Element(
        "testsuite",
        name="gilscope check",
        tests=str(len(verdicts)),
        failures=str(broken),
        errors="0",
        skipped="0",
    )
    for verdict in verdicts:
        case = Xml.SubElement(
            suite,
            "testcase",
            classname=escaped(verdict.trace),
            name=escaped(f"{verdict.thread}: {verdict.bound}"),
        )
        if verdict.why:
            Xml.SubElement(case, "failure", message=escaped(verdict.why))
    root = Xml.Element("testsuites")
    root.append(suite)
    return bytes(Xml.tostring(root, encoding="utf-8", xml_declaration=True))
