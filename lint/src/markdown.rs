//! The little of Markdown that the checks need: fences of code, tables and headings.

/// What a line of a document belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// The first or last line of a fence of code.
    Fence,
    /// A line in a fence of code, with the language that the fence names, or `""`.
    Code(&'a str),
    /// A row of a table.
    Table,
    /// A heading, without its `#`s.
    Heading(&'a str),
    /// Other text.
    Text,
}

/// Returns each line with its number, counted from 1, and its kind.
pub fn lines(text: &str) -> Vec<(usize, &str, Kind<'_>)> {
    let mut open: Option<(&str, &str)> = None;
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        let kind = match open {
            Some((mark, _)) if trimmed.starts_with(mark) && trimmed.trim_matches(['`', '~', ' ']).is_empty() => {
                open = None;
                Kind::Fence
            }
            Some((_, language)) => Kind::Code(language),
            None => match fence(trimmed) {
                Some(started) => {
                    open = Some(started);
                    Kind::Fence
                }
                None => plain(trimmed),
            },
        };
        lines.push((index + 1, line, kind));
    }
    lines
}

/// Returns the code spans of a line: every second piece between backticks.
pub fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Returns the code spans of a document's text and tables, with the line of each and the heading's number before it.
/// The number is 0 before the first heading below the title. Fences of code have no spans.
pub fn spans_by_section(text: &str) -> Vec<(usize, usize, &str)> {
    let (mut section, mut found) = (0, Vec::new());
    for (number, line, kind) in lines(text) {
        match kind {
            Kind::Heading(_) => section += usize::from(!line.starts_with("# ")),
            Kind::Fence | Kind::Code(_) => continue,
            Kind::Table | Kind::Text => {}
        }
        found.extend(spans(line).map(|span| (number, section, span)));
    }
    found
}

/// Returns the mark that ends the fence which starts with this line, and the fence's language.
fn fence(line: &str) -> Option<(&str, &str)> {
    let mark = ["```", "~~~"].into_iter().find(|mark| line.starts_with(mark))?;
    let info = line.trim_start_matches(['`', '~']).trim();
    Some((mark, info.split([' ', ',']).next().unwrap_or_default()))
}

fn plain(line: &str) -> Kind<'_> {
    if line.starts_with('|') {
        return Kind::Table;
    }
    let rest = line.trim_start_matches('#');
    let level = line.len() - rest.len();
    if (1..=6).contains(&level) && rest.starts_with(' ') {
        return Kind::Heading(rest.trim().trim_end_matches('#').trim_end());
    }
    Kind::Text
}

/// Returns the anchor that GitHub gives a heading, before it tells equal ones apart.
pub fn anchor(heading: &str) -> String {
    let mut anchor = String::new();
    for character in visible(heading).chars() {
        match character {
            ' ' => anchor.push('-'),
            '-' | '_' => anchor.push(character),
            _ if character.is_alphanumeric() => anchor.extend(character.to_lowercase()),
            _ => {}
        }
    }
    anchor
}

/// Returns a heading without the targets of its links.
fn visible(heading: &str) -> String {
    let mut text = String::new();
    let mut rest = heading;
    while let Some(at) = rest.find("](") {
        text.push_str(&rest[..at]);
        rest = rest[at..].split_once(')').map_or("", |(_, after)| after);
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_apart() {
        let text = "# One `two`\ntext\n```sql\n# no heading\n```\n| a | b |\n#no heading\n";
        let kinds: Vec<_> = lines(text).into_iter().map(|(_, _, kind)| kind).collect();
        assert_eq!(
            kinds,
            [
                Kind::Heading("One `two`"),
                Kind::Text,
                Kind::Fence,
                Kind::Code("sql"),
                Kind::Fence,
                Kind::Table,
                Kind::Text
            ]
        );
    }

    #[test]
    fn spans_have_their_section() {
        let text = "# Title\n`a` and `b c`\n## One `two`\n```\n`no`\n```\n| `d` | e |\n";
        assert_eq!(spans_by_section(text), [(2, 0, "a"), (2, 0, "b c"), (3, 1, "two"), (7, 1, "d")]);
    }

    #[test]
    fn anchors_are_those_of_github() {
        assert_eq!(anchor("Objects: `load_s3_slice`, by hand"), "objects-load_s3_slice-by-hand");
        assert_eq!(anchor("See [this](that.md#x) & more"), "see-this--more");
    }
}
