//! The results as Markdown that also reads well in a terminal.

use crate::bench::Bench;
use crate::format::{duration, grouped, item};
use crate::machine;
use crate::results::{Breakdown, Results, median, range};
use crate::rows::{ROWS, Row};

const HEADER: [&str; 7] = ["row", "what", "median", "ticks/s", "ratio", "round by round", "note"];
/// Columns of text, aligned to the left; the others hold numbers, aligned to the right.
const TEXT: [usize; 4] = [0, 1, 4, 6];

/// Returns the whole report.
pub fn markdown(bench: &Bench, results: &Results) -> String {
    let mut text =
        String::from("# Results\n\nWritten by `make bench`; what each row is stands in [README.md](README.md).\n\n");
    for line in machine::describe(&bench.servers).into_iter().chain(bench.describe()) {
        text.push_str(&item(&line));
    }
    text.push('\n');
    text.push_str(&table(bench, results));
    text.push_str(&breakdown(results));
    text
}

fn table(bench: &Bench, results: &Results) -> String {
    let wanted = ROWS.iter().filter(|row| bench.options.wants(row.key));
    let cells: Vec<[String; 7]> = wanted.map(|row| line(row, results)).collect();
    let mut widths = HEADER.map(|title| title.chars().count());
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = padded(&HEADER.map(str::to_owned), &widths);
    let rules = std::array::from_fn(|column| match column {
        _ if TEXT.contains(&column) => "-".repeat(widths[column]),
        _ => "-".repeat(widths[column] - 1) + ":",
    });
    text.push_str(&padded(&rules, &widths));
    cells.iter().for_each(|row| text.push_str(&padded(row, &widths)));
    text
}

fn padded(cells: &[String; 7], widths: &[usize; 7]) -> String {
    let mut line = String::from("|");
    for (column, (cell, &width)) in cells.iter().zip(widths).enumerate() {
        let cell = if TEXT.contains(&column) { format!(" {cell:<width$} |") } else { format!(" {cell:>width$} |") };
        line.push_str(&cell);
    }
    line + "\n"
}

fn line(row: &Row, results: &Results) -> [String; 7] {
    let (key, name, note) = (row.key.to_owned(), row.name.to_owned(), results.note_of(row.key).to_owned());
    let none = || "–".to_owned();
    let Some(seconds) = median(results.seconds(row.key)) else {
        return [key, name, none(), none(), none(), none(), note];
    };
    let rate = if row.per_call { none() } else { grouped((results.ticks(row.key) as f64 / seconds) as u64) };
    let base = row.against.and_then(|against| Some((against, median(results.seconds(against))?)));
    let ratio = base.map_or(none(), |(against, base)| format!("{:.2} × {against}", seconds / base));
    let spread = base.and_then(|(against, _)| range(&results.ratios(row.key, against)));
    let spread = spread.map_or(none(), |(least, most)| format!("{least:.2} … {most:.2}"));
    [key, name, duration(seconds), rate, ratio, spread, note]
}

fn breakdown(results: &Results) -> String {
    let of = |part: fn(&Breakdown) -> f64| median(&results.breakdown.iter().map(part).collect::<Vec<_>>());
    let Some(elapsed) = of(|load| load.elapsed) else { return String::new() };
    let part = |value: Option<f64>| duration(value.unwrap_or_default() / 1000.0);
    let backend = format!(
        "in the backend: {} from call to return, of which {} inserting and {} waiting for the first ticks, opening, \
         and writing the result; then {} for the COMMIT",
        part(Some(elapsed)),
        part(of(|load| load.insert)),
        part(of(|load| load.elapsed - load.insert)),
        part(of(|load| load.commit)),
    );
    let threads = format!(
        "beside it, at the same time and on threads of the load's own: {} decoding and encoding, {} waiting for S3",
        part(of(|load| load.decode)),
        part(of(|load| load.fetch)),
    );
    let title = "Where the time of the day's load goes (medians over its rounds):";
    format!("\n{title}\n\n{}{}", item(&backend), item(&threads))
}
