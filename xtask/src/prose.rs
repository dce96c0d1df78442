//! Comments and pages are narrow enough to be read beside code, and a doc says more than its item.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::sizes::sources;

/// The most columns of a comment line, and of a line of Markdown.
const MAX_COLUMNS: usize = 100;

/// The fewest words of a doc comment.
const MIN_WORDS: usize = 3;

/// Files under these paths have docs of a word or two that are still to be rewritten.
const SHORT_YET: &[&str] = &[
    "crates/broker/src/group",
    "crates/broker/src/partition",
    "crates/broker/src/replication",
    "crates/group",
    "crates/log",
    "crates/replica",
    "crates/storage",
];

/// Where a doc is the help of a flag: a word or two may be all there is to say.
const HELP: &[&str] = &[
    "crates/cli/src",
    "crates/sim/src/main.rs",
    "tests/src/bin",
    "xtask",
];

/// Fails with every line that is too long and every doc that is too short.
pub(crate) fn check() -> Result<()> {
    let says_enough = |path: &Path| !SHORT_YET.iter().chain(HELP).any(|short| path.starts_with(short));
    let mut wrong = Vec::new();
    for path in sources()? {
        let text = read(&path)?;
        let mut complaints = long_comments(&text);
        if says_enough(&path) {
            complaints.extend(short_docs(&text));
        }
        wrong.extend(complaints.into_iter().map(|(line, what)| at(&path, line, &what)));
    }
    for path in pages()? {
        let complaints = long_lines(read(&path)?.lines());
        wrong.extend(complaints.into_iter().map(|(line, what)| at(&path, line, &what)));
    }
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("comments and pages:\n  {}", wrong.join("\n  "))
}

fn at(path: &Path, line: usize, what: &str) -> String {
    format!("{}:{line}: {what}", path.display())
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

/// Every page of Markdown under version control.
fn pages() -> Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .args(["ls-files", "*.md"])
        .output()
        .context("running git ls-files")?;
    let listed = String::from_utf8(output.stdout).context("file names in UTF-8")?;
    Ok(listed
        .lines()
        .map(PathBuf::from)
        .filter(|path| path.exists())
        .collect())
}

/// What is wrong, after the number of its line.
type Complaint = (usize, String);

/// Lines of comments that are too long.
fn long_comments(text: &str) -> Vec<Complaint> {
    long_lines(text.lines().map(|line| match comment(line) {
        // As wide as it stands in the file.
        Some(_) => line,
        None => "",
    }))
}

/// Lines that are too long, and are neither code, nor a table's, nor a single word such as a link.
fn long_lines<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Complaint> {
    let mut is_code = false;
    let mut long = Vec::new();
    for (line, number) in lines.zip(1..) {
        let text = comment(line).unwrap_or(line).trim();
        if text.starts_with("```") {
            is_code = !is_code;
        }
        let columns = line.chars().count();
        let words = text.trim_start_matches("- ");
        let may_be_long = is_code || text.starts_with(['|', '#']) || !words.contains(' ');
        if columns > MAX_COLUMNS && !may_be_long {
            long.push((number, format!("{columns} columns: wrap it at {MAX_COLUMNS}")));
        }
    }
    long
}

/// Docs of one paragraph that says next to nothing.
fn short_docs(text: &str) -> Vec<Complaint> {
    let mut short = Vec::new();
    let mut doc = String::new();
    for (line, number) in text.lines().zip(1..) {
        if let Some(more) = line.trim_start().strip_prefix("///") {
            doc += more;
            continue;
        }
        let words = doc.split_whitespace().count();
        let names_something = doc.contains(['`', '"']);
        if (1..MIN_WORDS).contains(&words) && !names_something {
            short.push((
                number - 1,
                format!(
                    "\"{}\" says nothing: say what its item is, or remove it",
                    doc.trim()
                ),
            ));
        }
        doc.clear();
    }
    short
}

/// The text of a line that is a comment and nothing else.
fn comment(line: &str) -> Option<&str> {
    let text = line.trim_start().strip_prefix("//")?;
    Some(text.trim_start_matches(['/', '!']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(complaints: &[Complaint]) -> Vec<usize> {
        complaints.iter().map(|(number, _)| *number).collect()
    }

    #[test]
    fn a_long_comment_is_one_and_long_code_is_none() {
        let words = "word ".repeat(25);
        let link = "x".repeat(120);
        let text = format!(
            "/// {words}\nlet a = \"{words}\"; // {words}\n// | {words}\n/// ```\n/// {words}\n/// ```\n    // {words}\n//! {link}"
        );
        assert_eq!(numbers(&long_comments(&text)), [1, 7]);
    }

    #[test]
    fn a_comment_is_as_wide_as_its_line() {
        let hundred = format!("    // {}", "ab ".repeat(31));
        assert_eq!(hundred.trim_end().chars().count(), 99);
        assert!(long_comments(hundred.trim_end()).is_empty());
        assert_eq!(numbers(&long_comments(&format!("  {}", hundred.trim_end()))), [1]);
    }

    #[test]
    fn a_table_a_heading_code_and_a_link_of_a_page_may_be_long() {
        let words = "word ".repeat(25);
        let link = format!("- [a]({})", "x".repeat(120));
        let page = format!("# {words}\n| {words} |\n```text\n{words}\n```\n{words}\n- {words}\n{link}");
        assert_eq!(numbers(&long_lines(page.lines())), [6, 7]);
    }

    #[test]
    fn a_doc_of_two_words_is_short() {
        let text = "/// Which.\na: u8,\n    /// Its name.\n    b: u8,\n/// Which of the\n/// two.\nc: u8,\n// No doc.\n";
        assert_eq!(numbers(&short_docs(text)), [1, 3]);
    }
}
