//! Lines of a file or of standard input, read on a thread of their own: neither can be waited for
//! by a runtime.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bytes::Bytes;
use tidelog_types::limits::MAX_MAX_MESSAGE_BYTES;
use tokio::sync::mpsc;

use crate::exit::{Exit, Failure};

/// Longest line, bytes: no topic takes a larger record.
const MAX_LINE_BYTES: usize = MAX_MAX_MESSAGE_BYTES as usize;
/// Most lines that are handed over together.
const MAX_LINES: usize = 512;
/// Most handovers that wait.
const MAX_WAITING: usize = 8;

/// Lines without their ends, as many as were there without waiting.
pub(super) type Lines = Result<Vec<Bytes>>;

/// What is read.
#[derive(Debug)]
pub(super) struct Source {
    /// As messages call it.
    pub(super) name: String,
    /// Ends after the last line or an error.
    pub(super) lines: mpsc::Receiver<Lines>,
}

/// The files in order, or standard input if there are none; with `whole`, each is one line,
/// whatever stands in it.
pub(super) fn sources(files: &[PathBuf], whole: bool) -> Result<VecDeque<Source>> {
    if files.is_empty() {
        let input = BufReader::new(io::stdin());
        return Ok(VecDeque::from([spawn("the input".to_owned(), input, whole)]));
    }
    files.iter().map(|file| open(file, whole)).collect()
}

fn open(path: &Path, whole: bool) -> Result<Source> {
    let name = path.display().to_string();
    let file = File::open(path)
        .map_err(|error| Failure::new(Exit::NotFound, format!("cannot open {name}: {error}")))?;
    Ok(spawn(name, BufReader::with_capacity(256 * 1024, file), whole))
}

fn spawn(name: String, input: BufReader<impl Read + Send + 'static>, whole: bool) -> Source {
    let (lines, receiver) = mpsc::channel(MAX_WAITING);
    let what = name.clone();
    // Not joined: a thread that waits for standard input cannot be told to stop.
    std::thread::spawn(move || {
        if whole {
            // Nobody listens any more if this fails.
            let _ = lines.blocking_send(everything(input, &what).map(|bytes| vec![bytes]));
        } else {
            pump(input, &lines);
        }
    });
    Source {
        name,
        lines: receiver,
    }
}

fn everything(input: impl Read, name: &str) -> Result<Bytes> {
    let mut bytes = Vec::new();
    input
        .take(MAX_LINE_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("reading {name}"))?;
    if bytes.len() > MAX_LINE_BYTES {
        let text = format!("{name} is longer than {MAX_LINE_BYTES} bytes, which no topic takes; split it");
        return Err(Failure::new(Exit::Failed, text).into());
    }
    Ok(bytes.into())
}

fn pump(mut input: BufReader<impl Read>, lines: &mpsc::Sender<Lines>) {
    let mut number = 0_u64;
    let mut ready = Vec::new();
    loop {
        let line = one_line(&mut input, number + 1);
        let over = !matches!(line, Ok(Some(_)));
        let failed = match line {
            Ok(Some(line)) => {
                ready.push(line);
                number += 1;
                None
            }
            Ok(None) => None,
            Err(error) => Some(error),
        };
        // The next read may wait for somebody who types: what is there goes first.
        let more_at_hand = input.buffer().contains(&b'\n') && ready.len() < MAX_LINES;
        if !ready.is_empty()
            && (over || !more_at_hand)
            && lines.blocking_send(Ok(std::mem::take(&mut ready))).is_err()
        {
            return;
        }
        if let Some(error) = failed {
            // Nobody listens any more if this fails.
            let _ = lines.blocking_send(Err(error));
        }
        if over {
            return;
        }
    }
}

fn one_line(input: &mut impl BufRead, number: u64) -> Result<Option<Bytes>> {
    let mut line = Vec::new();
    let read = input
        .take(MAX_LINE_BYTES as u64 + 2)
        .read_until(b'\n', &mut line)
        .context("reading the input")?;
    if read == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    if line.len() > MAX_LINE_BYTES {
        let text =
            format!("line {number} is longer than {MAX_LINE_BYTES} bytes, which no topic takes; split it");
        return Err(Failure::new(Exit::Failed, text).into());
    }
    Ok(Some(line.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(input: &'static [u8]) -> Vec<Lines> {
        let (sender, mut receiver) = mpsc::channel(64);
        pump(BufReader::new(input), &sender);
        drop(sender);
        std::iter::from_fn(|| receiver.try_recv().ok()).collect()
    }

    #[test]
    fn lines_come_without_their_ends() {
        let lines: Vec<Bytes> = all(b"one\ntwo\r\n\nlast")
            .into_iter()
            .flat_map(Result::unwrap)
            .collect();
        assert_eq!(lines, ["one", "two", "", "last"].map(Bytes::from));
        assert!(all(b"").is_empty());
    }

    #[test]
    fn a_whole_file_is_its_bytes_and_has_a_largest_size() {
        assert_eq!(everything(&b"one\ntwo\r\n"[..], "f").unwrap(), "one\ntwo\r\n");
        let error = everything(io::repeat(b'x'), "f").unwrap_err().to_string();
        assert!(error.starts_with("f is longer than 16777216 bytes"), "{error}");
    }

    #[test]
    fn a_line_that_no_topic_takes_is_refused_after_those_before_it() {
        let long: &'static [u8] = Box::leak(
            [b"ok\n".to_vec(), vec![b'x'; MAX_LINE_BYTES + 1]]
                .concat()
                .into_boxed_slice(),
        );
        let lines = all(long);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].as_ref().unwrap(), &[Bytes::from("ok")]);
        assert!(lines[1].as_ref().unwrap_err().to_string().contains("line 2"));
    }
}
