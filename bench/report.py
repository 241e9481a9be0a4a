"""Tables for people, in Markdown, and JSON for programs."""
from peers import title

SIDE = ("rw-3600", "ro", "ro-3600", "preload")  # columns of a few workloads only: a table of their own


def number(value):
    """Three digits that count."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def table(head, rows, words=1):
    """words: so many columns from the left are text."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    aligned = [[cell.ljust(widths[i]) if i < words else cell.rjust(widths[i]) for i, cell in enumerate(row)]
               for row in [head, *rows]]
    rule = ["-" * width if i < words else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [aligned[0], rule, *aligned[1:]])


def times(results, workloads, columns):
    rows = []
    for name, by_column in results.items():
        shown = [f"{number(by_column[column].median)} ±{by_column[column].spread:.0%}" if column in by_column else "-"
                 for column in columns]
        if any(cell != "-" for cell in shown):
            rows.append([f"{name}, {workloads[name].unit}", *shown])
    return table(["median and spread", *columns], rows) if rows else ""


def costs(results, workloads, columns):
    rows = []
    for name, by_column in results.items():
        daemons = {column: series for column, series in by_column.items() if series.daemon}
        if not daemons:
            continue
        row = [f"{name}, us/{workloads[name].per}"]
        for column in columns:
            series = daemons.get(column)
            row.append(f"{number(series.cpu_us)} ({number((series.peak_kib or 0) / 1024)})" if series else "-")
        rows.append(row)
    return table(["CPU of the daemon (peak MiB)", *columns], rows) if rows else ""


def spelled(requests):
    """The most frequent first; without what is no part of a file's cost."""
    most = sorted(requests.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {count:.3g}" for name, count in most if count >= 0.005)


def requests(results):
    rows = []
    for name, by_column in results.items():
        for column, series in by_column.items():
            if series.first:
                rows.append([f"{name}, {column}", spelled(series.first), spelled(series.again) or "-"])
    head = ["requests per file", "of a new mirror", "of a run that follows at once"]
    return table(head, rows, words=3) if rows else ""


def extras(results):
    rows = []
    for name, by_column in results.items():
        for column, series in by_column.items():
            if series.extra:
                shown = (f"{key} {number(series.extra_median(key))}" for key in series.extra)
                rows.append([f"{name}, {column}", ", ".join(shown)])
    return table(["medians of further figures", ""], rows, words=2) if rows else ""


def targets(verdicts):
    words = {True: "pass", False: "FAIL", None: "not measured"}
    rows = [[verdict.text, f"{verdict.kind} {verdict.bound:.4g}",
             "-" if verdict.ratio is None else f"{verdict.ratio:.3f}", words[verdict.passed]] for verdict in verdicts]
    return table(["target", "bound", "measured", "verdict"], rows)


def legend(columns, results, workloads):
    lines = [f"- {column}: {title(column)}" for column in columns]
    lines += [f"- {name}: {workloads[name].title}" for name in results]
    return "\n".join(lines)


def text(facts, results, workloads, columns):
    main = [column for column in columns if column not in SIDE]
    side = [column for column in columns if column in SIDE]
    with_daemon = [column for column in columns if any(column in by and by[column].daemon for by in results.values())]
    parts = ["\n".join(f"{name}: {value}" for name, value in facts.items()), legend(columns, results, workloads),
             times(results, workloads, main), times(results, workloads, side), costs(results, workloads, with_daemon),
             requests(results), extras(results)]
    return "\n\n".join(part for part in parts if part)


def as_json(facts, results, workloads, verdicts):
    def series(one):
        return {"values": one.values, "median": one.median, "spread": one.spread, "extra": one.extra,
                "daemon_cpu_us": one.cpu_us if one.daemon else None, "daemon_peak_kib": one.peak_kib,
                "requests_new": one.first, "requests_again": one.again}

    return {
        "facts": facts,
        "workloads": {name: {"title": workloads[name].title, "unit": workloads[name].unit, "per": workloads[name].per,
                             "columns": {column: series(one) for column, one in by_column.items()}}
                      for name, by_column in results.items()},
        "targets": [{"text": one.text, "kind": one.kind, "bound": one.bound, "ratio": one.ratio, "passed": one.passed}
                    for one in verdicts],
    }
