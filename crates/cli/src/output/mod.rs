//! Showing results: columns for people, JSON for programs.

mod columns;
mod flag;
mod format;
mod record;
mod stdout;

use std::io::{self, BufWriter, Write};

use anyhow::{Context, Result};
use serde::Serialize;

pub(crate) use columns::Columns;
pub(crate) use flag::{OutputFlag, OutputFormat};
pub(crate) use format::{Format, HELP as FORMAT_HELP};
pub(crate) use record::{ShownHeader, ShownRecord};
pub(crate) use stdout::Stdout;

/// Shows one result on standard output.
pub(crate) fn show<T: Serialize>(
    format: OutputFormat,
    value: &T,
    columns: impl FnOnce(bool) -> Columns,
) -> Result<()> {
    match format {
        OutputFormat::Json => json_line(value),
        OutputFormat::Table => columns(false).print(),
        OutputFormat::Wide => columns(true).print(),
    }
}

/// Shows one result in several tables, with an empty line between them.
pub(crate) fn show_all<T: Serialize>(
    format: OutputFormat,
    value: &T,
    tables: impl FnOnce(bool) -> Vec<Columns>,
) -> Result<()> {
    let wide = match format {
        OutputFormat::Json => return json_line(value),
        OutputFormat::Table => false,
        OutputFormat::Wide => true,
    };
    let texts: Vec<String> = tables(wide).iter().map(Columns::text).collect();
    line(&texts.join("\n\n"))
}

/// Says that something was done: to programs what was done, to people a sentence on standard error.
pub(crate) fn done<T: Serialize>(format: OutputFormat, value: &T, sentence: &str) -> Result<()> {
    if format == OutputFormat::Json {
        return json_line(value);
    }
    crate::tell!("{sentence}");
    Ok(())
}

/// One JSON object, on a line of its own.
pub(crate) fn json_line<T: Serialize>(value: &T) -> Result<()> {
    let mut line = Vec::new();
    write_json_line(&mut line, value)?;
    print(&line)
}

/// The same to any writer.
pub(crate) fn write_json_line<T: Serialize>(out: &mut impl Write, value: &T) -> Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    Ok(out.write_all(b"\n")?)
}

/// One line of text. Unlike `println!` it does not panic when nobody reads.
pub(crate) fn line(text: &str) -> Result<()> {
    print(format!("{text}\n").as_bytes())
}

/// Bytes as they are, all of them out of this process.
pub(crate) fn print(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    printed(out.write_all(bytes).and_then(|()| out.flush()))
}

/// What became of standard output: an error says that it is the one that took nothing.
pub(crate) fn printed(outcome: io::Result<()>) -> Result<()> {
    outcome.context("cannot write to standard output")
}

/// Standard output for what comes piece by piece. Its errors say what they are of, too.
pub(crate) fn pieces() -> impl Write {
    BufWriter::new(Named(io::stdout().lock()))
}

struct Named<W>(W);

impl<W: Write> Write for Named<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(named)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(named)
    }
}

fn named(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::Interrupted {
        return error;
    }
    io::Error::new(error.kind(), format!("cannot write to standard output: {error}"))
}

/// A value as a cell shows it, if there is one.
pub(crate) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Numbers in one cell.
pub(crate) fn join(numbers: &[u32]) -> String {
    if numbers.is_empty() {
        return "-".to_owned();
    }
    let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    numbers.join(",")
}

/// The hexadecimal digits of bytes.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_of_a_stream_is_one_object_a_line() {
        let mut out = Vec::new();
        for n in 0..2 {
            write_json_line(&mut out, &serde_json::json!({ "n": n, "text": "a\nb" })).unwrap();
        }
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"n\":0,\"text\":\"a\\nb\"}\n{\"n\":1,\"text\":\"a\\nb\"}\n"
        );
    }

    #[test]
    fn cells_say_nothing_with_a_dash() {
        assert_eq!(or_dash(Some(3)), "3");
        assert_eq!(or_dash(None::<u32>), "-");
        assert_eq!((join(&[1, 3]), join(&[])), ("1,3".to_owned(), "-".to_owned()));
        assert_eq!(hex(&[0, 0xab, 0xff]), "00abff");
    }
}
