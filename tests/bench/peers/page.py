#!/usr/bin/env python3
"""Makes the chart and the tables of the page on performance from the results of `make bench-peers`.

    python3 tests/bench/peers/page.py RESULTS CHART.svg [PAGE.md…]

Without a page only the chart is written. In a page, the lines between `<!-- peers: begin -->` and
`<!-- peers: end -->` are replaced, in Chinese if the page is in the folder `zh`. A figure that was not measured is shown
as a dash.
"""

import json
import sys
from pathlib import Path
from xml.sax.saxutils import escape

# Names of servers, in the order of the tables.
SERVERS = {
    "floor": "floor",
    "wscast": "wscast",
    "bun": "Bun",
    "nchan": "nchan",
    "gorilla": "Go hub",
    "tungstenite": "tokio hub",
    "ws": "Node ws",
    "websockets": "Python websockets",
    "flask": "Flask",
}
PEERS = [name for name in SERVERS if name not in ("floor", "wscast")]

# Rows of the table: the name of a scenario, the name of a figure, the label, and how to write a figure.
ROWS = [
    ("handshakes", "CPU per handshake", "connect, welcome and close: CPU", "{:.0f} µs"),
    ("handshakes", "handshakes per second", "the same, 64 at a time: per second", "k"),
    ("rooms-rate", "CPU per message", "1000 rooms of 3, 1000 messages/s: CPU per message", "{:.0f} µs"),
    ("rooms-closed", "CPU per message", "the same rooms, 64 outstanding: CPU per message", "{:.0f} µs"),
    ("fanout-rate", "CPU per delivery", "1000 clients, 50 messages/s: CPU per delivery", "{:.2f} µs"),
    ("fanout-rate", "latency p99", "the same: p99 latency", "{:.1f} ms"),
    ("fanout-4", "deliveries per second", "1000 clients, 4 outstanding: deliveries per second", "k"),
    ("fanout-16", "deliveries per second", "100 clients, 16 outstanding: deliveries per second", "k"),
    ("large", "deliveries per second", "200 clients, 16 KiB, 4 outstanding: deliveries per second", "k"),
    ("bandwidth-512", "payload per core", "100 clients, 512 bytes, 300 messages/s: Gbit/s per core", "{:.2f}"),
    ("bandwidth-4k", "payload per core", "100 clients, 4 KiB, 4 outstanding: Gbit/s per core", "{:.1f}"),
    ("idle", "memory per connection", "5000 idle connections: memory of each", "{:.1f} KiB"),
    ("stalled", "peak memory", "10 of 200 clients never read, 16 KiB: peak memory", "{:.0f} MiB"),
    ("stalled", "latency p99", "the same: p99 latency of the others", "{:.1f} ms"),
    ("held", "clients held", "clients of one room that get 95 % of 50 messages/s within 500 ms", "{:.0f}"),
    ("avalanche", "until 99 % are back", "8000 clients after a crash: until 99 % are back", "{:.2f} s"),
    ("avalanche", "messages missing", "the same: messages missed meanwhile", "{:.0f} %"),
    ("drops", "messages delivered", "subscribers cut every 2 s: messages delivered", "{:.1f} %"),
    ("drops-crash", "messages delivered", "the same, and the server is killed: messages delivered", "{:.1f} %"),
    ("drops-crash", "deliveries doubled", "the same: deliveries doubled", "{:.0f}"),
]
LADDERS = [
    ("ladder-clients", [f"CPU per delivery, {count} clients" for count in (10, 100, 1000, 10000)]),
    ("ladder-rooms", [f"CPU per delivery, {count} rooms" for count in (1, 10, 100, 1000)]),
]
# Groups of the chart: the place of a row, and a title that stands alone.
CHARTED = [
    (0, "connect, welcome and close: CPU"),
    (2, "1000 rooms of 3, 1000 messages/s: CPU per message"),
    (3, "1000 rooms of 3, 64 outstanding: CPU per message"),
    (4, "1000 clients, 50 messages/s: CPU per delivery"),
    (6, "1000 clients, 4 outstanding: deliveries per second"),
    (7, "100 clients, 16 outstanding: deliveries per second"),
    (8, "200 clients, 16 KiB, 4 outstanding: deliveries/s"),
    (12, "10 of 200 clients never read, 16 KiB: peak memory"),
]

# The texts of the tables in Chinese.
CHINESE = {
    "measurement": "测量项",
    "wscast / best other": "wscast / 其他中最好的",
    "floor": "下限",
    "connect, welcome and close: CPU": "连接、欢迎消息、关闭：CPU",
    "the same, 64 at a time: per second": "同上，64 个同时：每秒次数",
    "1000 rooms of 3, 1000 messages/s: CPU per message": "1000 个 3 人房间，每秒 1000 条：每条消息的 CPU",
    "the same rooms, 64 outstanding: CPU per message": "同上，64 条在途：每条消息的 CPU",
    "1000 clients, 50 messages/s: CPU per delivery": "1000 个客户端，每秒 50 条：每次投递的 CPU",
    "the same: p99 latency": "同上：p99 延迟",
    "1000 clients, 4 outstanding: deliveries per second": "1000 个客户端，4 条在途：每秒投递",
    "100 clients, 16 outstanding: deliveries per second": "100 个客户端，16 条在途：每秒投递",
    "200 clients, 16 KiB, 4 outstanding: deliveries per second": "200 个客户端，16 KiB，4 条在途：每秒投递",
    "100 clients, 512 bytes, 300 messages/s: Gbit/s per core": "100 个客户端，512 字节，每秒 300 条：每核 Gbit/s",
    "100 clients, 4 KiB, 4 outstanding: Gbit/s per core": "100 个客户端，4 KiB，4 条在途：每核 Gbit/s",
    "5000 idle connections: memory of each": "5000 个空闲连接：每个的内存",
    "10 of 200 clients never read, 16 KiB: peak memory": "200 个客户端中 10 个从不读取，16 KiB：内存峰值",
    "the same: p99 latency of the others": "同上：其余客户端的 p99 延迟",
    "clients of one room that get 95 % of 50 messages/s within 500 ms": "一个房间、每秒 50 条、95 % 在 500 ms 内送达的客户端数",
    "8000 clients after a crash: until 99 % are back": "崩溃后 8000 个客户端：99 % 重连成功的时间",
    "the same: messages missed meanwhile": "同上：期间丢失的消息",
    "subscribers cut every 2 s: messages delivered": "订阅者每 2 秒被断开一次：送达的消息",
    "the same, and the server is killed: messages delivered": "同上，并强制结束服务器：送达的消息",
    "the same: deliveries doubled": "同上：重复的投递",
    "CPU per delivery in µs, with ever more clients and rooms:": "每次投递的 CPU（µs），客户端和房间逐渐增多：",
    "20 000 deliveries/s": "每秒 20 000 次投递",
    "rooms of 10, 1000 messages/s": "每个房间 10 人，每秒 1000 条",
    "clients": "个客户端",
    "room": "个房间",
    "rooms": "个房间",
    "Machine": "机器",
    "Rounds and seconds of each measurement": "每次测量的轮数和秒数",
    "Servers": "服务器",
    "Skipped": "跳过",
    "failed": "失败",
}


def english(text):
    return text


def chinese(text):
    return CHINESE[text]


class Results:
    """The file that the bench writes."""

    def __init__(self, path):
        self.scenarios = json.loads(Path(path).read_text(encoding="utf-8"))

    def figure(self, scenario, name):
        """The servers' figures, and whether lower or higher is better."""
        figures = self.scenarios.get(scenario, {}).get("figures", [])
        found = next((figure for figure in figures if figure["name"] == name), None)
        return (found["servers"], found["better"]) if found else ({}, "lower")

    def versions(self):
        return {label: text for scenario in self.scenarios.values() for label, text in scenario["versions"].items()}

    def skipped(self):
        return {label: text for scenario in self.scenarios.values() for label, text in scenario["skipped"].items()}

    def failures(self):
        return [
            (scenario["title"], label, reason)
            for scenario in self.scenarios.values()
            for label, reason in scenario["failures"].items()
        ]


def text(value, form):
    if value is None:
        return "–"
    if form == "k":
        return f"{value / 1e6:.2f} M" if value >= 1e6 else f"{value / 1e3:.0f} k" if value >= 1e5 else f"{value / 1e3:.1f} k"
    return form.format(value)


def ratio(value):
    return "–" if value is None else f"{value:.2f}"


def row(cells):
    return "| " + " | ".join(cells) + " |"


def tables(results, say):
    """The lines between the marks of the page. `say` translates a text into the language of the page."""
    columns = [say("measurement"), say(SERVERS["floor"]), *list(SERVERS.values())[1:]]
    lines = [row([*columns, say("wscast / best other")]), row(["---"] * (len(columns) + 1))]
    for scenario, name, label, form in ROWS:
        servers, _ = results.figure(scenario, name)
        cells = [text(servers.get(server, {}).get("median"), form) for server in SERVERS]
        lines.append(row([say(label), *cells, ratio(servers.get("wscast", {}).get("to_best"))]))
    lines += ["", say("CPU per delivery in µs, with ever more clients and rooms:"), ""]
    lines += [row(columns), row(["---"] * len(columns))]
    for scenario, names in LADDERS:
        load = "20 000 deliveries/s" if scenario == "ladder-clients" else "rooms of 10, 1000 messages/s"
        for name in names:
            servers, _ = results.figure(scenario, name)
            cells = [text(servers.get(server, {}).get("median"), "{:.2f}") for server in SERVERS]
            label = name.removeprefix("CPU per delivery, ")
            count, things = ("1", "room") if label == "1 rooms" else label.split(" ")
            lines.append(row([f"{count} {say(things)}, {say(load)}", *cells]))
    lines += ["", *about(results, say)]
    return lines


def about(results, say):
    """The machine, the programs, and what is missing and why, in the words of the bench."""
    machines = {scenario["machine"].rsplit(", load average", 1)[0] for scenario in results.scenarios.values()}
    runs = sorted({(scenario["rounds"], scenario["seconds"]) for scenario in results.scenarios.values()})
    runs = ", ".join(f"{rounds} × {seconds:g} s" for rounds, seconds in runs)
    lines = [
        *(f"- {say('Machine')}: {machine}." for machine in sorted(machines)),
        f"- {say('Rounds and seconds of each measurement')}: {runs}.",
        f"- {say('Servers')}: " + "; ".join(f"{label}: {version}" for label, version in results.versions().items()) + ".",
    ]
    lines += [f"- {say('Skipped')}: {label}: {reason}." for label, reason in results.skipped().items()]
    by_reason = {}
    for title, label, reason in results.failures():
        by_reason.setdefault(label, []).append(f"{title} ({reason[:80]})")
    lines += [f"- {label} {say('failed')}: " + "; ".join(failed) + "." for label, failed in by_reason.items()]
    return lines


def chart(results):
    """An SVG with a group of bars for each figure: the best server's bar has full length."""
    columns, group_width, bar_height, bar_width = 2, 430, 17, 200
    group_height = 34 + bar_height * len([*PEERS, "wscast"]) + 14
    groups = []
    for place, (index, title) in enumerate(CHARTED):
        scenario, name, _, form = ROWS[index]
        servers, better = results.figure(scenario, name)
        values = {server: servers.get(server, {}).get("median") for server in ["wscast", *PEERS]}
        known = [value for value in values.values() if value]
        best = (max if better == "higher" else min)(known, default=None)
        x, y = 10 + place % columns * group_width, 30 + place // columns * group_height
        groups.append(f'<text x="{x}" y="{y + 14}" font-weight="bold" font-size="12">{escape(title)}</text>')
        for line, (server, value) in enumerate(values.items()):
            top = y + 24 + line * bar_height
            share = 0 if not value else value / best if better == "higher" else best / value
            color = "#d9480f" if server == "wscast" else "#9aa5b1"
            groups.append(f'<text x="{x + 118}" y="{top + 12}" text-anchor="end">{escape(SERVERS[server])}</text>')
            groups.append(f'<rect x="{x + 124}" y="{top + 2}" width="{share * bar_width:.1f}" height="12" fill="{color}"/>')
            groups.append(f'<text x="{x + 130 + share * bar_width:.1f}" y="{top + 12}">{escape(text(value, form))}</text>')
    width = 20 + columns * group_width
    height = 40 + -(-len(CHARTED) // columns) * group_height
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
            f'<rect width="{width}" height="{height}" fill="#fff"/>',
            '<g font-family="sans-serif" font-size="11" fill="#222">',
            '<text x="10" y="20">Longer is better: the best server has the full length. One core for the server.</text>',
            *groups,
            "</g>",
            "</svg>",
            "",
        ]
    )


def replace_section(page, lines):
    content = page.read_text(encoding="utf-8")
    begin, end = "<!-- peers: begin -->\n", "<!-- peers: end -->"
    before, rest = content.split(begin)
    _, after = rest.split(end)
    page.write_text(before + begin + "\n" + "\n".join(lines) + "\n\n" + end + after, encoding="utf-8")


def main():
    source, picture, *pages = sys.argv[1:]
    results = Results(source)
    Path(picture).write_text(chart(results), encoding="utf-8")
    print(f"chart: {picture}")
    for page in map(Path, pages):
        replace_section(page, tables(results, chinese if page.parent.name == "zh" else english))
        print(f"figures: {page}")


if __name__ == "__main__":
    main()
