//! The results as Markdown that also reads well in a terminal.

use crate::bench::Bench;
use crate::machine;
use crate::results::{Results, median, range};
use crate::rows::{ROWS, Row};

const HEADER: [&str; 7] = ["row", "what", "median", "ticks/s", "ratio", "round by round", "note"];
/// Columns of text; the others hold numbers.
const TEXT: [usize; 4] = [0, 1, 4, 6];

/// Everything, ready to be printed or to be a file.
pub fn markdown(bench: &Bench, results: &Results) -> String {
    let mut text =
        String::from("# Results\n\nWritten by `make bench`; what each row is stands in [README.md](README.md).\n\n");
    for line in machine::describe(&bench.rig) {
        text.push_str(&format!("- {line}\n"));
    }
    for line in bench.data_lines() {
        text.push_str(&format!("- {line}\n"));
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
        // Text to the left, numbers to the right.
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
    let of =
        |part: fn(&crate::results::Breakdown) -> f64| median(&results.breakdown.iter().map(part).collect::<Vec<_>>());
    let Some(elapsed) = of(|load| load.elapsed) else { return String::new() };
    let part = |value: Option<f64>| duration(value.unwrap_or_default() / 1000.0);
    format!(
        "\nWhere the time of the day's load goes (medians over its rounds):\n\n\
         - in the backend: {} from call to return, of which {} inserting and {} waiting for the first ticks, opening, \
         and keeping books; then {} for the COMMIT\n\
         - beside it, at the same time and on threads of the load's own: {} decoding and encoding, {} waiting for S3\n",
        part(Some(elapsed)),
        part(of(|load| load.insert)),
        part(of(|load| load.elapsed - load.insert)),
        part(of(|load| load.commit)),
        part(of(|load| load.decode)),
        part(of(|load| load.fetch)),
    )
}

/// Seconds as a reader wants them.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s >= 100.0 => format!("{s:.0} s"),
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 0.1 => format!("{:.0} ms", s * 1e3),
        s => format!("{:.2} ms", s * 1e3),
    }
}

/// Bytes in megabytes, in tenths.
pub fn megabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / (1 << 20) as f64)
}

/// A number with commas between its thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_readers() {
        assert_eq!(grouped(3_000_000), "3,000,000");
        assert_eq!(grouped(999), "999");
        assert_eq!(duration(123.4), "123 s");
        assert_eq!(duration(12.345), "12.35 s");
        assert_eq!(duration(0.25), "250 ms");
        assert_eq!(duration(0.00123), "1.23 ms");
    }
}
