//! Columns of text.

/// Lines of cells, each as wide as its column; the last one is not padded.
pub(crate) fn align<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let width = |cell: &String| cell.chars().count();
    let mut widths = [0; N];
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            widths[column] = widths[column].max(width(cell));
        }
    }
    let line = |row: &[String; N]| {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            line.push_str(cell);
            if column + 1 < N {
                line.push_str(&" ".repeat(widths[column] - width(cell) + 2));
            }
        }
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Text of a peer or a user, safe on a terminal.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Octets in the largest unit that leaves at most four digits.
pub(crate) fn size(octets: u64) -> String {
    let units = ["", "K", "M", "G", "T"];
    let mut value = octets;
    let mut unit = 0;
    while value >= 10_000 && unit + 1 < units.len() {
        value = value.div_ceil(1024);
        unit += 1;
    }
    format!("{value}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligns_and_cleans() {
        let cell = |text: &str| text.to_owned();
        let rows = [[cell("a"), cell("bb"), cell("c")], [cell("äää"), cell(""), cell("d")]];
        assert_eq!(align(&rows), ["a    bb  c", "äää      d"]);
        assert_eq!(plain("a\u{1b}[2Jb\n"), "a?[2Jb?");
        let sizes = [0, 9_999, 10_000, 20 << 20, 50 << 30].map(size);
        assert_eq!(sizes, ["0", "9999", "10K", "20M", "50G"]);
    }
}
