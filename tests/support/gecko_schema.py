"""What the Firefox Profiler's published types ask of a processed profile, version 70.

Written after `src/types/profile.ts` and `markers.ts` of github.com/firefox-devtools/profiler: every
field that `Profile` must have, and of the optional ones those that gilscope writes. No other field
passes. Beside the types: columns of one table are equally long, and indexes lie in their tables.
"""

from __future__ import annotations

from typing import Any

import jsonschema

Schema = dict[str, Any]

NUMBER: Schema = {"type": "number"}
INDEX: Schema = {"type": "integer", "minimum": 0}
TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
BIT: Schema = {"enum": [0, 1]}


def or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def each(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def record(optional: tuple[str, ...] = (), **fields: Schema) -> Schema:
    return {
        "type": "object",
        "properties": fields,
        "required": [name for name in fields if name not in optional],
        "additionalProperties": False,
    }


def table(**columns: Schema) -> Schema:
    return record(**{name: each(schema) for name, schema in columns.items()}, length=INDEX)


OR_NONE: Schema = {"type": "integer", "minimum": -1}
COLOURS = (
    *("transparent", "purple", "green", "orange", "yellow", "lightblue", "blue", "brown"),
    *("magenta", "red", "lightred", "darkgrey", "grey"),
)
LOCATIONS = (
    *("marker-chart", "marker-table", "timeline-overview", "timeline-memory", "timeline-ipc"),
    *("timeline-fileio", "timeline-network", "stack-chart"),
)
META = record(
    ("endTime", "startTimeAsClockMonotonicNanosecondsSinceBoot"),
    interval=NUMBER,
    startTime=NUMBER,
    endTime=NUMBER,
    startTimeAsClockMonotonicNanosecondsSinceBoot=NUMBER,
    processType=NUMBER,
    product=TEXT,
    importedFrom=TEXT,
    stackwalk=BIT,
    debug=FLAG,
    version=NUMBER,
    preprocessedProfileVersion={"const": 70},
    symbolicated=FLAG,
    symbolicationNotSupported=FLAG,
    usesOnlyOneStackType=FLAG,
    sourceCodeIsNotOnSearchfox=FLAG,
    keepProfileThreadOrder=FLAG,
    initialVisibleThreads=each(INDEX),
    initialSelectedThreads=each(INDEX),
    categories=each(record(name=TEXT, color={"enum": COLOURS}, subcategories=each(TEXT))),
    markerSchema=each(
        record(
            name=TEXT,
            tableLabel=TEXT,
            chartLabel=TEXT,
            display=each({"enum": LOCATIONS}),
            fields=each(record(key=TEXT, label=TEXT, format={"enum": ["string"]})),
        )
    ),
    extra=each(
        record(
            label=TEXT,
            entries=each(record(label=TEXT, format={"enum": ["string", "integer"]}, value={})),
        )
    ),
)
SHARED = record(
    stackTable=table(frame=INDEX, prefixOffset=INDEX),
    frameTable=table(
        address=OR_NONE,
        lib=OR_NONE,
        inlineDepth=INDEX,
        category=or_null(INDEX),
        subcategory=or_null(INDEX),
        func=INDEX,
        nativeSymbol=or_null(INDEX),
        innerWindowID=or_null(INDEX),
        line=or_null(INDEX),
        column=or_null(INDEX),
        originalLocation=or_null(INDEX),
    ),
    funcTable=table(
        name=INDEX,
        isJS=FLAG,
        relevantForJS=FLAG,
        resource=OR_NONE,
        source=or_null(INDEX),
        lineNumber=or_null(INDEX),
        columnNumber=or_null(INDEX),
        originalLocation=or_null(INDEX),
    ),
    resourceTable=table(name=INDEX, host=or_null(INDEX), type=INDEX),
    nativeSymbols=table(libIndex=INDEX, address=NUMBER, name=INDEX, functionSize=or_null(NUMBER)),
    sources=table(
        id=or_null(TEXT),
        filename=INDEX,
        startLine=INDEX,
        startColumn=INDEX,
        sourceMapURL=or_null(INDEX),
        content=or_null(TEXT),
    ),
    sourceLocationTable=table(source=INDEX, line=INDEX, column=INDEX),
    stringArray=each(TEXT),
)
SAMPLES = record(
    stack=each(or_null(INDEX)),
    time=each(NUMBER),
    weight=each(NUMBER),
    weightType={"enum": ["samples", "tracing-ms", "bytes"]},
    length=INDEX,
)
MARKERS = table(
    data=or_null(record(type={"const": "Text"}, name=TEXT, cause=record(stack=INDEX))),
    name=INDEX,
    startTime=NUMBER,
    endTime=NUMBER,
    phase={"enum": [0, 1, 2, 3]},
    category=INDEX,
)
THREAD = record(
    processType=TEXT,
    processName=TEXT,
    processStartupTime=NUMBER,
    processShutdownTime=or_null(NUMBER),
    registerTime=NUMBER,
    unregisterTime=or_null(NUMBER),
    pausedRanges=each(
        record(
            startTime=or_null(NUMBER),
            endTime=or_null(NUMBER),
            reason={"enum": ["profiler-paused", "collecting"]},
        )
    ),
    showMarkersInTimeline=FLAG,
    name=TEXT,
    isMainThread=FLAG,
    pid=TEXT,
    tid={"type": ["string", "number"]},
    samples=SAMPLES,
    markers=MARKERS,
)
PROFILE = record(meta=META, libs=each({}), pages=each({}), shared=SHARED, threads=each(THREAD))


def expect_profile(profile: Schema) -> None:
    """Fail where the profile is none."""
    jsonschema.Draft202012Validator(PROFILE).validate(profile)
    shared, threads = profile["shared"], profile["threads"]
    tables = [part for part in shared.values() if isinstance(part, dict)]
    tables += [thread[name] for thread in threads for name in ("samples", "markers")]
    for part in tables:
        columns = [column for column in part.values() if isinstance(column, list)]
        assert {len(column) for column in columns} == {part["length"]}
    stacks = shared["stackTable"]
    categories = len(profile["meta"]["categories"])
    assert profile["meta"]["categories"][0] | {"subcategories": 0} == {
        "name": "Other",
        "color": "grey",
        "subcategories": 0,
    }
    _within(stacks["frame"], shared["frameTable"]["length"])
    assert all(offset <= at for at, offset in enumerate(stacks["prefixOffset"]))
    _within(shared["frameTable"]["func"], shared["funcTable"]["length"])
    _within(shared["frameTable"]["category"], categories)
    _within(shared["funcTable"]["name"], len(shared["stringArray"]))
    _within(shared["funcTable"]["source"], shared["sources"]["length"])
    _within(shared["sources"]["filename"], len(shared["stringArray"]))
    _within(profile["meta"]["initialVisibleThreads"], len(threads))
    assert len({thread["tid"] for thread in threads}) == len(threads)
    for thread in threads:
        samples, markers = thread["samples"], thread["markers"]
        _within(samples["stack"], stacks["length"])
        assert samples["time"] == sorted(samples["time"])
        _within(markers["name"], len(shared["stringArray"]))
        _within(markers["category"], categories)
        _within([data and data["cause"]["stack"] for data in markers["data"]], stacks["length"])
        pairs = zip(markers["startTime"], markers["endTime"], strict=True)
        assert all(start <= end for start, end in pairs)


def _within(indexes: list[int | None], length: int) -> None:
    assert all(index is None or index < length for index in indexes)
