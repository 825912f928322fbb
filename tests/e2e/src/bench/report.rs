//! The figures as a table.

use serde_json::Value;

/// Writes what was measured as Markdown.
pub fn print(figures: &Value) {
    println!("| | ours | beside | ratio | asked |");
    println!("|---|---|---|---|---|");
    let spool = &figures["spool"];
    if !spool.is_null() {
        let (ours, raw) = (number(&spool["ours_per_s"]), number(&spool["raw_per_s"]));
        row("spool, messages/s", ours, raw, "bare file", 0, "≥ 0.6");
        let (ours, raw) = (number(&spool["p99_ms"]), number(&spool["raw_p99_ms"]));
        row("spool, p99 ms", ours, raw, "bare file", 2, "< 3");
    }
    for (key, name, rate, cpu) in [
        ("accept_kept", "accept, kept connections", "≥ 3", 0.25),
        ("accept_new", "accept, new connections", "≥ 2.5", 0.35),
        ("relay", "relay", "≥ 4.5", 0.4),
    ] {
        let of = &figures[key];
        if of.is_null() {
            continue;
        }
        let pair = |what: &str| {
            (number(&of[format!("ours_{what}")]), number(&of[format!("postfix_{what}")]))
        };
        let (ours, theirs) = pair("per_s");
        row(&format!("{name}, messages/s"), ours, theirs, "Postfix", 0, rate);
        row(&format!("{name}, messages/s"), ours, number(&of["floor_per_s"]), "floor", 0, "");
        let (ours, theirs) = pair("cpu_ms");
        row(&format!("{name}, CPU ms"), ours, theirs, "Postfix", 3, &format!("≤ {cpu} ms"));
        let (ours, theirs) = pair("p99_ms");
        row(&format!("{name}, p99 ms"), ours, theirs, "Postfix", 1, "");
    }
    print_deliver(&figures["deliver"]);
    print_sites(&figures["sites"]);
    print_million(&figures["million"]);
    print_idle(&figures["idle"]);
}

fn print_deliver(of: &Value) {
    if of.is_null() {
        return;
    }
    let name = format!("deliver {} queued", of["messages"]);
    for (key, what, decimals, asked) in [
        ("per_s", "messages/s", 0, "≥ 3"),
        ("cpu_ms", "CPU ms", 3, "≤ 0.25 ms"),
        ("connections", "connections", 0, ""),
    ] {
        let of = |whose: &str| number(&of[format!("{whose}_{key}")]);
        row(&format!("{name}, {what}"), of("ours"), of("postfix"), "Postfix", decimals, asked);
    }
}

fn print_sites(of: &Value) {
    if of.is_null() {
        return;
    }
    let name = format!("{} to {} domains on {} sites", of["messages"], of["domains"], of["sites"]);
    let (beside, alone) = (number(&of["beside_s"]), number(&of["alone_s"]));
    let what = format!("{name}, one dead and one slow: the others' mail, s");
    row(&what, beside, alone, "alone", 2, "≤ 1.2");
}

fn print_million(of: &Value) {
    if of.is_null() {
        return;
    }
    let name = format!("{} deferred", of["messages"]);
    let (with, without) = (number(&of["accept_per_s"]), number(&of["accept_empty_per_s"]));
    row(&format!("{name}: accept, messages/s"), with, without, "empty", 0, "≥ 0.8");
    for (key, what, decimals, asked) in [
        ("stats_s", "`queue stats`, s", 3, "< 0.2"),
        ("restart_s", "kill -9 to a message taken, s", 2, "< 3"),
        ("rss_mib", "resident, MiB", 0, "< 400"),
        ("released_s", "10,000 released and 10,000 new delivered, s", 1, ""),
        ("new_p99_ms", "new mail meanwhile, p99 ms", 1, "< 50"),
    ] {
        single(&format!("{name}: {what}"), number(&of[key]), decimals, asked);
    }
}

fn print_idle(of: &Value) {
    if of.is_null() {
        return;
    }
    let name = format!("{} idle TLS connections", of["connections"]);
    single(&format!("{name}: KiB each"), number(&of["kib_each"]), 1, "< 48");
    single(&format!("{name}: new mail, p99 ms"), number(&of["p99_ms"]), 1, "< 20");
}

fn row(
    name: &str,
    ours: Option<f64>,
    beside: Option<f64>,
    whose: &str,
    decimals: usize,
    asked: &str,
) {
    let text = |value: Option<f64>| value.map_or("–".to_owned(), |v| format!("{v:.decimals$}"));
    let ratio =
        ours.zip(beside).map_or("–".to_owned(), |(ours, beside)| format!("{:.2}", ours / beside));
    println!("| {name} | {} | {} {whose} | {ratio} | {asked} |", text(ours), text(beside));
}

fn single(name: &str, ours: Option<f64>, decimals: usize, asked: &str) {
    let text = ours.map_or("–".to_owned(), |value| format!("{value:.decimals$}"));
    println!("| {name} | {text} | | | {asked} |");
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64()
}
